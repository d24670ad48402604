#include "text/added_tokens.h"

#include <algorithm>

#include "core/utf8.h"
#include "text/unicode.h"

namespace fastkv {
namespace {

bool is_word_character(std::string_view text, std::size_t position) {
  static const Regex word(R"(\w)", "tokenizer");
  const CodePoint c = decode_utf8(text, position);
  return word.find(text.substr(position, c.length), 0).has_value();
}

std::size_t previous_character(std::string_view text, std::size_t position) {
  do --position;
  while (position > 0 && (static_cast<unsigned char>(text[position]) & 0xC0) == 0x80);
  return position;
}

bool stands_alone(std::string_view text, std::size_t begin, std::size_t end) {
  const bool before = begin == 0 || !is_word_character(text, previous_character(text, begin));
  const bool after = end == text.size() || !is_word_character(text, end);
  return before && after;
}

std::size_t skip_space_back(std::string_view text, std::size_t position, std::size_t limit) {
  while (position > limit) {
    const std::size_t p = previous_character(text, position);
    if (!is_white_space(decode_utf8(text, p).value)) break;
    position = p;
  }
  return std::max(position, limit);
}

std::size_t skip_space(std::string_view text, std::size_t position) {
  while (position < text.size()) {
    const CodePoint c = decode_utf8(text, position);
    if (!is_white_space(c.value)) break;
    position += c.length;
  }
  return position;
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::erase_if(tokens_, [](const AddedToken& t) { return t.content.empty(); });
  // Reversed and stable, so that of equal contents the last stands first and is kept.
  std::reverse(tokens_.begin(), tokens_.end());
  std::stable_sort(tokens_.begin(), tokens_.end(),
                   [](const AddedToken& a, const AddedToken& b) { return a.content < b.content; });
  const auto same = [](const AddedToken& a, const AddedToken& b) { return a.content == b.content; };
  tokens_.erase(std::unique(tokens_.begin(), tokens_.end(), same), tokens_.end());
  for (const AddedToken& t : tokens_) begins_[static_cast<unsigned char>(t.content[0])] = true;
}

const AddedToken* AddedTokens::longest_at(std::string_view text, std::size_t position) const {
  // Narrow the sorted tokens to those that share the text's next byte, byte by byte; the one that
  // ends here stands first among them.
  const AddedToken* found = nullptr;
  auto first = tokens_.begin(), last = tokens_.end();
  for (std::size_t depth = 0; first != last && position + depth < text.size(); ++depth) {
    const auto byte = static_cast<unsigned char>(text[position + depth]);
    const auto at = [depth](const AddedToken& t) {
      return t.content.size() > depth
                 ? static_cast<int>(static_cast<unsigned char>(t.content[depth]))
                 : -1;
    };
    first = std::partition_point(first, last, [&](const AddedToken& t) { return at(t) < byte; });
    last = std::partition_point(first, last, [&](const AddedToken& t) { return at(t) <= byte; });
    if (first != last && first->content.size() == depth + 1) found = &*first;
  }
  return found;
}

void AddedTokens::split(std::string_view text, bool parse_special, const Sink& sink) const {
  std::size_t done = 0;
  for (std::size_t i = 0; !tokens_.empty() && i < text.size();) {
    const AddedToken* token =
        begins_[static_cast<unsigned char>(text[i])] ? longest_at(text, i) : nullptr;
    if (!token) {
      ++i;
      continue;
    }
    std::size_t begin = i, end = i + token->content.size();
    i = end;  // also past a token that is not taken: matches do not overlap
    if (token->special && !parse_special) continue;
    if (token->single_word && !stands_alone(text, begin, end)) continue;
    if (token->lstrip) begin = skip_space_back(text, begin, done);
    if (token->rstrip) end = skip_space(text, end);
    if (begin < done) begin = done;  // the token before took this one's first characters
    if (begin > done) sink(text.substr(done, begin - done), -1);
    sink(text.substr(begin, std::max(begin, end) - begin), token->id);
    done = std::max(begin, end);
  }
  if (done < text.size()) sink(text.substr(done), -1);
}

}  // namespace fastkv
