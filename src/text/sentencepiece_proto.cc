// Field numbers are those of sentencepiece_model.proto
// (github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto).

#include "text/sentencepiece_proto.h"

#include <cstdint>
#include <cstring>

namespace fastkv {
namespace {

/// Goes through the fields of a protobuf message.
class Message {
 public:
  explicit Message(std::string_view bytes) : rest_(bytes) {}

  struct Field {
    std::uint64_t number = 0;
    std::uint64_t value = 0;  // of integers and booleans
    std::string_view bytes;   // of strings, messages and floats
  };

  /// The next field; nothing at the end and when the bytes are broken, which sets ok() to false.
  std::optional<Field> next() {
    if (rest_.empty() || !ok_) return std::nullopt;
    const std::uint64_t key = integer();
    Field field{key >> 3, 0, {}};
    switch (key & 7) {
      case 0:
        field.value = integer();
        break;
      case 1:
        field.bytes = take(8);
        break;
      case 2:
        field.bytes = take(integer());
        break;
      case 5:
        field.bytes = take(4);
        break;
      default:
        ok_ = false;
    }
    return ok_ ? std::optional(field) : std::nullopt;
  }
  bool ok() const { return ok_; }

 private:
  std::uint64_t integer() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const std::string_view byte = take(1);
      if (!ok_) return 0;
      value |= std::uint64_t{static_cast<unsigned char>(byte[0]) & 0x7Fu} << shift;
      if (!(static_cast<unsigned char>(byte[0]) & 0x80u)) return value;
    }
    ok_ = false;
    return 0;
  }
  std::string_view take(std::uint64_t n) {
    if (n > rest_.size()) ok_ = false;
    if (!ok_) return {};
    const std::string_view bytes = rest_.substr(0, n);
    rest_.remove_prefix(n);
    return bytes;
  }

  std::string_view rest_;
  bool ok_ = true;
};

/// False for pieces that our BPE does not know.
bool read_piece(std::string_view bytes, std::vector<SentencePiece>& pieces) {
  enum : std::uint64_t { text = 1, score = 2, type = 3 };
  SentencePiece piece;
  Message message(bytes);
  while (const auto field = message.next()) {
    if (field->number == text) piece.text = field->bytes;
    if (field->number == score && field->bytes.size() == 4) {
      std::memcpy(&piece.score, field->bytes.data(), 4);
    }
    if (field->number == type) {
      if (field->value < 1 || field->value > 6) return false;
      piece.type = static_cast<SentencePiece::Type>(field->value);
    }
  }
  using Type = SentencePiece::Type;
  if (piece.type == Type::unused) return false;
  const bool has_space = piece.text.find_first_of(' ') != std::string::npos ||
                         piece.text.find("\u2581") != std::string::npos;
  if (piece.type == Type::user_defined && has_space) return false;  // those see unmarked spaces
  pieces.push_back(std::move(piece));
  return message.ok();
}

/// Whether the trainer's settings are those of a BPE that treats spaces as prefixes.
bool is_plain_trainer(std::string_view bytes) {
  enum : std::uint64_t { model_type = 3, space_as_suffix = 24 };
  constexpr std::uint64_t bpe = 2;
  bool plain = false;
  Message message(bytes);
  while (const auto field = message.next()) {
    if (field->number == model_type) plain = field->value == bpe;
    if (field->number == space_as_suffix && field->value) return false;
  }
  return plain && message.ok();
}

/// Whether text is left as it is but for spaces; reads add_dummy_prefix.
bool is_plain_normalizer(std::string_view bytes, bool& add_dummy_prefix) {
  enum : std::uint64_t { character_map = 2, dummy_prefix = 3, squeeze_spaces = 4, mark_spaces = 5 };
  bool squeeze = true, mark = true;  // the format's defaults
  Message message(bytes);
  while (const auto field = message.next()) {
    if (field->number == character_map && !field->bytes.empty()) return false;
    if (field->number == dummy_prefix) add_dummy_prefix = field->value;
    if (field->number == squeeze_spaces) squeeze = field->value;
    if (field->number == mark_spaces) mark = field->value;
  }
  return !squeeze && mark && message.ok();
}

}  // namespace

std::optional<PlainBpeModel> read_plain_bpe(std::string_view model) {
  enum : std::uint64_t { piece = 1, trainer = 2, normalizer = 3 };
  PlainBpeModel result;
  bool plain_trainer = false, plain_normalizer = false;
  Message message(model);
  while (const auto field = message.next()) {
    if (field->number == piece && !read_piece(field->bytes, result.pieces)) return std::nullopt;
    if (field->number == trainer) plain_trainer = is_plain_trainer(field->bytes);
    if (field->number == normalizer) {
      plain_normalizer = is_plain_normalizer(field->bytes, result.add_dummy_prefix);
    }
  }
  if (!message.ok() || !plain_trainer || !plain_normalizer) return std::nullopt;
  return result;
}

}  // namespace fastkv
