#include "core/utf8.h"

#include <gtest/gtest.h>

namespace fastkv {
namespace {

TEST(Utf8, FindsTheFirstBadByte) {
  EXPECT_TRUE(is_valid_utf8(""));
  EXPECT_TRUE(is_valid_utf8("a\u00e9\u4e2d\U0001F600"));
  EXPECT_EQ(find_invalid_utf8("ab\xff"), 2u);
  EXPECT_EQ(find_invalid_utf8("a\xc0\x80"), 1u);             // overlong
  EXPECT_EQ(find_invalid_utf8("\xe0\x9f\xbf"), 0u);          // overlong
  EXPECT_EQ(find_invalid_utf8("\xed\xa0\x80"), 0u);          // surrogate
  EXPECT_EQ(find_invalid_utf8("\xf4\x90\x80\x80"), 0u);      // above U+10FFFF
  EXPECT_EQ(find_invalid_utf8("x\xe4\xb8"), 1u);             // cut off
  EXPECT_EQ(find_invalid_utf8("\xf4\x8f\xbf\xbf\x80"), 4u);  // a stray continuation byte
}

TEST(Utf8, EveryCodePointGoesThereAndBack) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    append_utf8(text, c);
    const CodePoint back = decode_utf8(text, 0);
    ASSERT_TRUE(back.valid);
    ASSERT_EQ(back.value, c);
    ASSERT_EQ(back.length, text.size());
    ASSERT_EQ(utf8_length(static_cast<unsigned char>(text[0])), text.size());
    for (std::size_t cut = 1; cut < text.size(); ++cut) {
      ASSERT_EQ(incomplete_utf8_tail("a" + text.substr(0, cut)), cut);
    }
    ASSERT_EQ(incomplete_utf8_tail(text), 0u);
  }
}

TEST(Utf8, TailsThatNothingCanCompleteAreNotIncomplete) {
  EXPECT_EQ(incomplete_utf8_tail(""), 0u);
  EXPECT_EQ(incomplete_utf8_tail("\xff"), 0u);
  EXPECT_EQ(incomplete_utf8_tail("\x80\x80\x80"), 0u);
  EXPECT_EQ(incomplete_utf8_tail("\xe0\x80"), 0u);
  EXPECT_EQ(incomplete_utf8_tail("\xed\xa0"), 0u);
}

TEST(Utf8, ReplacesMaximalParts) {
  EXPECT_EQ(replace_invalid_utf8("a\xe4\xb8z"), "a\uFFFDz");
  EXPECT_EQ(replace_invalid_utf8("\xf0\x9f\x98\xff"), "\uFFFD\uFFFD");
  EXPECT_EQ(replace_invalid_utf8("\xed\xa0\x80"), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(count_code_points("a\u00e9\U0001F600\xff"), 4u);
}

}  // namespace
}  // namespace fastkv
