#include "tasks/template.h"

#include "core/error.h"

namespace fastkv {

FilledTemplate fill_template(std::string_view text,
                             const std::map<std::string_view, std::string_view>& fields) {
  FilledTemplate filled;
  bool after_context = false;
  std::string* part = &filled.context;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::size_t end = text[i] == '{' ? text.find('}', i) : std::string_view::npos;
    if (end != std::string_view::npos) {
      const std::string_view name = text.substr(i + 1, end - i - 1);
      if (const auto field = fields.find(name); field != fields.end()) {
        *part += field->second;
        i = end;
        if (name == "context") {
          after_context = true;
          part = &filled.question;
        }
        continue;
      }
    }
    *part += text[i];
  }
  if (!after_context) fail("a prompt template has no {{context}}: {}", text.substr(0, 80));
  return filled;
}

}  // namespace fastkv
