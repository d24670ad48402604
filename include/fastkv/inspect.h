#pragma once

#include <span>
#include <string>
#include <vector>

#include "fastkv/text.h"

namespace fastkv {

/// The text that each token adds; together they are the decoded text, but for characters that
/// several tokens share.
std::vector<std::string> token_texts(const Text& text, std::span<const TokenId> ids);

/// A page, in one file that needs nothing else, on what a prefill selected: the prompt's text
/// coloured by how many heads keep each token, layer by layer, and curves of how much the layers'
/// selections have in common. `trace` is what Session::trace() returned.
std::string inspection_page(const std::string& title, const std::vector<std::string>& tokens,
                            const std::string& trace);

}  // namespace fastkv
