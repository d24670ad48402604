#pragma once

#include <map>
#include <string>
#include <string_view>

namespace fastkv {

/// A prompt in two parts: up to the context, and what follows it.
struct FilledTemplate {
  std::string context, question;
};

/// Replaces {name} by the field of that name; braces around other text, and in the fields, stay.
/// The prompt is cut after {context}. Throws Error for a template without {context}.
FilledTemplate fill_template(std::string_view text,
                             const std::map<std::string_view, std::string_view>& fields);

}  // namespace fastkv
