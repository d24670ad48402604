#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "text/tokenizer_parts.h"

namespace fastkv {

/// A SentencePiece model whose encoding our own BPE reproduces.
struct PlainBpeModel {
  std::vector<SentencePiece> pieces;
  bool add_dummy_prefix = true;
};

/// Reads the parts of a SentencePiece model file (a protobuf message) that decide how text is
/// encoded. Nothing when the model is not BPE, changes text beyond spaces, or has unusual pieces;
/// such models need the SentencePiece library. Nothing, too, when the bytes are broken.
std::optional<PlainBpeModel> read_plain_bpe(std::string_view model);

}  // namespace fastkv
