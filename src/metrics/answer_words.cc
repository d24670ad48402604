#include "metrics/answer_words.h"

#include "metrics/python_text.h"

namespace fastkv {
namespace {

bool is_ascii_punctuation(char32_t c) {
  return (c >= 0x21 && c <= 0x2F) || (c >= 0x3A && c <= 0x40) || (c >= 0x5B && c <= 0x60) ||
         (c >= 0x7B && c <= 0x7E);
}

bool is_chinese_punctuation(char32_t c) {
  constexpr std::u32string_view marks =
      U"！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】"
      U"〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏";
  return marks.find(c) != std::u32string_view::npos;
}

}  // namespace

std::vector<std::string> english_answer_words(std::string_view text) {
  std::u32string kept;
  for (const char32_t c : to_code_points(python_lower(text))) {
    if (!is_ascii_punctuation(c)) kept.push_back(c);
  }
  // An article is a run of word characters; what stands next to it need not be a space.
  std::u32string out;
  for (std::size_t i = 0; i < kept.size();) {
    std::size_t end = i;
    while (end < kept.size() && is_python_word(kept[end])) ++end;
    const std::u32string_view word(kept.data() + i, end - i);
    if (word == U"a" || word == U"an" || word == U"the") {
      out.push_back(U' ');
    } else {
      out.append(word);
    }
    if (end < kept.size()) out.push_back(kept[end]);
    i = end + 1;
  }
  return python_split(to_utf8(out));
}

std::u32string chinese_answer_characters(std::string_view text) {
  std::u32string out;
  for (const char32_t c : to_code_points(python_lower(text))) {
    if (!is_ascii_punctuation(c) && !is_chinese_punctuation(c) && !is_python_space(c)) {
      out.push_back(c);
    }
  }
  return out;
}

std::vector<std::string> rouge_words(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  for (const char c : python_lower(text) + " ") {
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
      word.push_back(c);
    } else if (!word.empty()) {
      words.push_back(std::move(word));
      word.clear();
    }
  }
  return words;
}

}  // namespace fastkv
