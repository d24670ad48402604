#pragma once

#include <string>

namespace fastkv {

/// The project's own haystack: about 700 KB of English prose that a small grammar made, the same
/// every time. Paragraphs, separated by an empty line, are each about one craft or place; the
/// sentences are plain and varied, mean little, and hide nothing that a needle could be mistaken
/// for. It replaces the essays of published tests, which others have written.
const std::string& own_prose();

}  // namespace fastkv
