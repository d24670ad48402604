#include "engine/text_filter.h"

#include <algorithm>

namespace fastkv {

TextFilter::TextFilter(const Tokenizer* tokenizer, std::vector<std::string> stops,
                       std::function<void(std::string_view)> on_text)
    : stops_(std::move(stops)), on_text_(std::move(on_text)) {
  if (tokenizer)
    decoder_.emplace(*tokenizer, StreamDecoder::Options{.skip_special = true, .continues = true});
  std::erase_if(stops_, [](const std::string& s) { return s.empty(); });
}

bool TextFilter::add(std::int32_t token) { return !decoder_ || take(decoder_->add(token)); }

std::string TextFilter::finish() {
  if (decoder_ && !stopped_) take(decoder_->finish());
  if (!stopped_) pass_on(text_.size());
  return text_;
}

bool TextFilter::take(std::string_view piece) {
  const std::size_t before = text_.size();
  text_ += piece;
  std::size_t stop_at = std::string::npos;
  for (const std::string& stop : stops_) {
    // It may have begun in text that came earlier.
    const std::size_t from = before < stop.size() ? 0 : before - stop.size();
    stop_at = std::min(stop_at, text_.find(stop, from));
  }
  if (stop_at != std::string::npos) {
    text_.resize(stop_at);
    pass_on(stop_at);
    stopped_ = true;
    return false;
  }
  // Hold back the longest end of the text that begins a stop text.
  std::size_t held = 0;
  for (const std::string& stop : stops_) {
    for (std::size_t n = std::min(stop.size() - 1, text_.size()); n > held; --n) {
      if (text_.ends_with(std::string_view(stop).substr(0, n))) held = n;
    }
  }
  pass_on(text_.size() - held);
  return true;
}

void TextFilter::pass_on(std::size_t end) {
  if (end > passed_ && on_text_) on_text_(std::string_view(text_).substr(passed_, end - passed_));
  passed_ = std::max(passed_, end);
}

}  // namespace fastkv
