#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "core/utf8.h"
#include "support/test_data.h"
#include "text/expect_error.h"
#include "text/tiny_tokenizer.h"

namespace fastkv {
namespace {

using Ids = std::vector<std::int32_t>;
using test::make;

std::filesystem::path bundled() {
  return std::filesystem::path(FASTKV_SOURCE_DIR) / "models/needle-v2-14m";
}

TEST(Tokenizer, MergesByRankThenFromTheLeft) {
  // Bytes are 0-255, merges' results follow: he 256, ll 257, hell 258, hello 259, _w 260.
  const Tokenizer t = make(test::tiny_byte_level());
  EXPECT_EQ(t.encode("hello", Special::as_text), (Ids{259}));
  EXPECT_EQ(t.encode("hell wo", Special::as_text), (Ids{258, 260, 'o'}));
  EXPECT_EQ(t.encode("lll", Special::as_text), (Ids{257, 'l'}));
  EXPECT_EQ(t.encode("", Special::as_text), Ids{});
  EXPECT_EQ(t.vocab_size(), 263);
  EXPECT_EQ(t.id_of("\u0120w"), 260);
  EXPECT_EQ(t.id_of("nothing"), std::nullopt);
  EXPECT_EQ(t.token_bytes(260), " w");
}

TEST(Tokenizer, MergesMayBeStrings) {
  auto file = test::tiny_byte_level();
  file["model"]["merges"] = {"h e", "l l", "he ll", "hell o"};
  EXPECT_EQ(make(file).encode("hello", Special::as_text), (Ids{259}));
}

TEST(Tokenizer, IgnoreMergesTakesWholeWords) {
  auto file = test::tiny_byte_level();
  file["model"]["vocab"]["xyz"] = 263;
  EXPECT_EQ(make(file).encode("xyz", Special::as_text), (Ids{'x', 'y', 'z'}));
  file["model"]["ignore_merges"] = true;
  EXPECT_EQ(make(file).encode("xyz", Special::as_text), (Ids{263}));
  // Never a special token, even when the model's own vocabulary has it.
  file["model"]["vocab"]["<s>"] = 261;
  file["pre_tokenizer"]["use_regex"] = false;
  EXPECT_EQ(make(file).encode("<s>", Special::as_text), (Ids{'<', 's', '>'}));
  EXPECT_EQ(make(file).encode("<s>", Special::parse), (Ids{261}));
}

/// Merging as the definition has it: the lowest rank anywhere, the leftmost of equals.
Ids merged_simply(Ids ids, const std::vector<std::array<std::int32_t, 3>>& merges) {
  while (true) {
    std::size_t best = merges.size(), at = 0;
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      for (std::size_t m = 0; m < best; ++m) {
        if (merges[m][0] == ids[i] && merges[m][1] == ids[i + 1]) best = m, at = i;
      }
    }
    if (best == merges.size()) return ids;
    ids[at] = merges[best][2];
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

TEST(Tokenizer, EqualsASimpleMergerOnWordsOfAllLengths) {
  std::mt19937 random(1);
  std::vector<std::string> pieces = {"a", "b", "c"};
  std::vector<std::pair<std::string, std::string>> merges;
  while (merges.size() < 30) {
    const std::string left = pieces[random() % pieces.size()],
                      right = pieces[random() % pieces.size()];
    const bool known =
        std::find(merges.begin(), merges.end(), std::pair(left, right)) != merges.end();
    if (known || left.size() + right.size() > 12) continue;
    merges.emplace_back(left, right);
    pieces.push_back(left + right);
  }
  const Tokenizer t = make(test::tiny_byte_level(merges));
  std::vector<std::array<std::int32_t, 3>> table;
  for (const auto& [left, right] : merges) {
    table.push_back({*t.id_of(left), *t.id_of(right), *t.id_of(left + right)});
  }
  for (int length : {1, 2, 3, 7, 23, 24, 25, 26, 63, 64, 65, 100, 400}) {
    for (int repeat = 0; repeat < 20; ++repeat) {
      std::string word;
      for (int i = 0; i < length; ++i) word += static_cast<char>('a' + random() % 3);
      const Ids expected = merged_simply(Ids(word.begin(), word.end()), table);
      // Twice, so that the second comes from the cache where it is short.
      ASSERT_EQ(t.encode(word, Special::as_text), expected) << word;
      const Ids both = t.encode(word + " " + word, Special::as_text);
      ASSERT_EQ(Ids(both.begin(), both.begin() + static_cast<std::ptrdiff_t>(expected.size())),
                expected);
    }
  }
}

TEST(Tokenizer, LongWordsAreNotQuadratic) {
  const Tokenizer t = Tokenizer::load(bundled());
  std::string word;
  std::mt19937 random(2);
  for (int i = 0; i < 1'000'000; ++i) word += static_cast<char>('a' + random() % 26);
  const auto ids = t.encode(word, Special::parse);  // minutes if it were
  EXPECT_EQ(t.decode(ids, false), word);
  const std::string spaces(1'000'000, ' ');
  EXPECT_EQ(t.decode(t.encode(spaces + "x", Special::parse), false), spaces + "x");
}

TEST(Tokenizer, SpecialTokensOnlyWhenAsked) {
  const Tokenizer t = make(test::tiny_byte_level());
  EXPECT_EQ(t.encode("a<s>b</s>", Special::parse), (Ids{'a', 261, 'b', 262}));
  EXPECT_EQ(t.encode("<s>", Special::as_text), (Ids{'<', 's', '>'}));
  EXPECT_EQ(t.decode(Ids{261, 'a', 262}, /*skip_special=*/false), "<s>a</s>");
  EXPECT_EQ(t.decode(Ids{261, 'a', 262}, /*skip_special=*/true), "a");
  EXPECT_TRUE(t.is_special(261));
  EXPECT_FALSE(t.is_special('a'));
}

TEST(Tokenizer, AddedTokensLongestFirstWithTheirStripping) {
  auto file = test::tiny_byte_level();
  const auto add = [&](int id, const std::string& content, const std::string& flag) {
    file["added_tokens"].push_back({{"id", id}, {"content", content}, {"normalized", false}});
    if (!flag.empty()) file["added_tokens"].back()[flag] = true;
  };
  add(300, "<t>", "");
  add(301, "<t>2", "");
  add(302, "[L]", "lstrip");
  add(303, "[R]", "rstrip");
  add(304, "cat", "single_word");
  const Tokenizer t = make(file);
  EXPECT_EQ(t.encode("<t>1<t>2", Special::as_text), (Ids{300, '1', 301}));
  EXPECT_EQ(t.encode("a \u2003[L] b", Special::as_text), (Ids{'a', 302, ' ', 'b'}));
  EXPECT_EQ(t.encode("a [R] \n b", Special::as_text), (Ids{'a', ' ', 303, 'b'}));
  EXPECT_EQ(t.encode("cat cats", Special::as_text), (Ids{304, ' ', 'c', 'a', 't', 's'}));
  EXPECT_EQ(t.encode("\u00e9cat", Special::as_text), (Ids{0xC3, 0xA9, 'c', 'a', 't'}));
}

TEST(Tokenizer, OneBosAndNeverTwo) {
  const Tokenizer t = make(test::tiny_sentencepiece());
  EXPECT_EQ(t.bos_id(), 1);
  const Ids plain = t.encode("ab", Special::parse);
  Ids with_bos = plain;
  with_bos.insert(with_bos.begin(), 1);
  EXPECT_EQ(t.encode_prompt("ab", true), with_bos);
  EXPECT_EQ(t.encode_prompt("<s>ab", true), with_bos);
  EXPECT_EQ(t.encode_prompt("ab", false), plain);
  EXPECT_EQ(t.encode_prompt("", true), Ids{1});
  EXPECT_EQ(make(test::tiny_byte_level()).encode_prompt("a", true), Ids{'a'});  // it has none
}

TEST(Tokenizer, ConfigNamesBosAndEos) {
  const test::TemporaryDir dir;
  dir.write("tokenizer.json", test::tiny_byte_level().dump());
  EXPECT_EQ(Tokenizer::load(dir.path()).bos_id(), std::nullopt);
  dir.write("tokenizer_config.json",
            R"({"bos_token": {"content": "<s>"}, "eos_token": "</s>", "add_bos_token": true})");
  EXPECT_EQ(Tokenizer::load(dir.path()).bos_id(), 261);
  EXPECT_EQ(Tokenizer::load(dir.path()).eos_id(), 262);
  dir.write("tokenizer.json", test::tiny_sentencepiece().dump());
  dir.write("tokenizer_config.json", R"({"add_bos_token": false})");
  EXPECT_EQ(Tokenizer::load(dir.path()).bos_id(), std::nullopt);
  dir.write("tokenizer_config.json", R"({"eos_token": "<end>"})");
  test::expect_error([&] { Tokenizer::load(dir.path()); },
                     "eos_token is \"<end>\", which is not a token of the vocabulary");
}

TEST(Tokenizer, ByteFallbackAndLeadingSpace) {
  // Characters follow the bytes: _ 259, a 260, b 261, c 262, ab 263, _ab 264, __ 265.
  const Tokenizer t = make(test::tiny_sentencepiece());
  EXPECT_EQ(t.encode("ab ab", Special::parse), (Ids{264, 264}));
  EXPECT_EQ(t.encode("  ab", Special::parse), (Ids{265, 264}));
  EXPECT_EQ(t.encode("a\u00e9", Special::parse), (Ids{259, 260, 3 + 0xC3, 3 + 0xA9}));
  for (const char* text : {"ab", " ab", "  ab", "", "a\u00e9\U0001F600", "ab\nab  c"}) {
    EXPECT_EQ(t.decode(t.encode(text, Special::parse), false), text);
  }
  EXPECT_EQ(t.decode(Ids{1, 264}, /*skip_special=*/true), "ab");
  EXPECT_EQ(t.decode(Ids{1, 264}, /*skip_special=*/false), "<s> ab");
}

TEST(Tokenizer, MetaspacePreTokenizer) {
  auto file = test::tiny_sentencepiece();
  file["normalizer"] = nullptr;
  file["pre_tokenizer"] = {{"type", "Metaspace"},
                           {"replacement", "\u2581"},
                           {"prepend_scheme", "first"},
                           {"split", true}};
  EXPECT_EQ(make(file).encode("ab ab<s>ab", Special::parse), (Ids{264, 264, 1, 263}));
  file["pre_tokenizer"]["prepend_scheme"] = "always";
  EXPECT_EQ(make(file).encode("ab<s>ab", Special::parse), (Ids{264, 1, 264}));
  file["pre_tokenizer"]["prepend_scheme"] = "never";
  EXPECT_EQ(make(file).encode("ab ab", Special::parse), (Ids{263, 264}));
}

TEST(Tokenizer, SplitBehaviors) {
  auto file = test::tiny_byte_level({{"a", "-"}, {"-", "b"}, {"-", "-"}});
  // a- 256, -b 257, -- 258: which pairs may merge shows where the text was cut.
  const auto ids = [&](const char* behavior, bool invert) {
    file["pre_tokenizer"] = {
        {"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"},
           {"pattern", {{"String", "-"}}},
           {"behavior", behavior},
           {"invert", invert}},
          {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
    return make(file).encode("a--b", Special::parse);
  };
  EXPECT_EQ(ids("Isolated", false), (Ids{'a', '-', '-', 'b'}));
  EXPECT_EQ(ids("Removed", false), (Ids{'a', 'b'}));
  EXPECT_EQ(ids("Removed", true), (Ids{'-', '-'}));
  EXPECT_EQ(ids("MergedWithPrevious", false), (Ids{256, '-', 'b'}));
  EXPECT_EQ(ids("MergedWithNext", false), (Ids{'a', '-', 257}));
  EXPECT_EQ(ids("Contiguous", false), (Ids{'a', 258, 'b'}));
}

TEST(Tokenizer, DigitsAndPrefixSpace) {
  auto file = test::tiny_byte_level({{"1", "2"}, {"\u0120", "1"}});
  file["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Digits"}, {"individual_digits", true}},
        {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  EXPECT_EQ(make(file).encode("12", Special::parse), (Ids{'1', '2'}));
  file["pre_tokenizer"]["pretokenizers"][0]["individual_digits"] = false;
  EXPECT_EQ(make(file).encode("12", Special::parse), (Ids{256}));
  file["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", true}};
  EXPECT_EQ(make(file).encode("1", Special::parse), (Ids{257}));
}

TEST(Tokenizer, BundledModelRoundTrips) {
  const Tokenizer t = Tokenizer::load(bundled());
  EXPECT_EQ(t.vocab_size(), 4096);
  EXPECT_EQ(t.bos_id(), 4091);
  for (const char* text :
       {"Hello, world! It's 12345.", "  two  spaces\n\n\ttab\r\n", "\u4f60\u597d\uff0c\u4e16\u754c",
        "\U0001F468\u200D\U0001F469\u200D\U0001F467", "caf\u00e9 cafe\u0301", "'\u017fx",
        "<|eot_id|> and <|begin_of_text|>", "\xC2\xA0\xE2\x80\x83 \xE1\xA0\x8E"}) {
    for (const Special mode : {Special::parse, Special::as_text}) {
      EXPECT_EQ(t.decode(t.encode(text, mode), false), text);
    }
  }
}

TEST(Tokenizer, ManyThreadsGetTheSameIds) {
  const Tokenizer t = Tokenizer::load(bundled());
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "Sentence number " + std::to_string(i * 7919) + ". ";
  const Ids expected = t.encode(text, Special::parse);
  std::vector<Ids> got(4);
  std::vector<std::thread> threads;
  for (Ids& ids : got) threads.emplace_back([&] { ids = t.encode(text, Special::parse); });
  for (auto& thread : threads) thread.join();
  for (const Ids& ids : got) EXPECT_EQ(ids, expected);
}

TEST(StreamDecoder, NeverHalfACharacter) {
  const Tokenizer t = make(test::tiny_byte_level());
  const std::string text = "a\u00e9\u4e2d\U0001F468\u200D\U0001F469z";
  StreamDecoder decoder(t);
  std::string all;
  for (const auto id : t.encode(text, Special::as_text)) {  // a token a byte
    const std::string part = decoder.add(id);
    EXPECT_TRUE(is_valid_utf8(part));
    EXPECT_LE(count_code_points(part), 1u);
    all += part;
  }
  EXPECT_EQ(all, text);
  EXPECT_EQ(decoder.finish(), "");
}

TEST(StreamDecoder, BrokenSequencesBecomeReplacements) {
  const Tokenizer t = make(test::tiny_byte_level());
  StreamDecoder decoder(t);
  EXPECT_EQ(decoder.add(0xE4), "");
  EXPECT_EQ(decoder.add('a'), "\uFFFDa");  // the rest of the character never came
  EXPECT_EQ(decoder.add(0x80), "\uFFFD");
  EXPECT_EQ(decoder.add(0xF0), "");
  EXPECT_EQ(decoder.add(0x9F), "");
  EXPECT_EQ(decoder.finish(), "\uFFFD");
  EXPECT_EQ(decoder.finish(), "");
  EXPECT_EQ(t.decode(Ids{0xE4, 'a', 0x80, 0xF0, 0x9F}, true), "\uFFFDa\uFFFD\uFFFD");
}

TEST(StreamDecoder, LeadingSpaceOfSentencePiece) {
  const Tokenizer t = make(test::tiny_sentencepiece());
  StreamDecoder whole(t);
  EXPECT_EQ(whole.add(1), "");
  EXPECT_EQ(whole.add(264), "ab");
  EXPECT_EQ(whole.add(264), " ab");
  EXPECT_EQ(whole.finish(), "");
  EXPECT_EQ(whole.add(264), "ab");  // begun anew
  StreamDecoder goes_on(t, {.continues = true});
  EXPECT_EQ(goes_on.add(264), " ab");
}

TEST(StreamDecoder, RandomIdsEqualDecode) {
  const Tokenizer t = Tokenizer::load(bundled());
  std::mt19937 random(3);
  for (int repeat = 0; repeat < 200; ++repeat) {
    Ids ids;
    for (int i = 0; i < 40; ++i) {
      ids.push_back(static_cast<std::int32_t>(random() % (repeat % 2 ? 4096 : 256)));
    }
    std::string streamed, bytes;
    StreamDecoder decoder(t, {.skip_special = false});
    for (const auto id : ids) {
      const std::string part = decoder.add(id);
      ASSERT_TRUE(is_valid_utf8(part));
      streamed += part;
      bytes += t.token_bytes(id);
    }
    streamed += decoder.finish();
    ASSERT_EQ(streamed, replace_invalid_utf8(bytes));
    ASSERT_EQ(t.decode(ids, false), streamed);
  }
}

}  // namespace
}  // namespace fastkv
