#include "text/chat_template.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/utf8.h"
#include "text/jinja_interpreter.h"
#include "text/tokenizer_config.h"

namespace fastkv {
namespace {

/// chat_template is a string, or a list of {name, template}.
std::optional<std::string> template_of(const Json& config, std::string_view where) {
  const Json* value = find_field(config, "chat_template", where);
  if (!value) return std::nullopt;
  if (!value->is_array()) return to_text(*value, "chat_template", where);
  for (const Json& entry : *value) {
    if (get_string(entry, "name", where) == "default") return get_string(entry, "template", where);
  }
  fail("{}: chat_template has {} templates, but none is named \"default\".", where, value->size());
}

}  // namespace

struct ChatTemplate::Data {
  jinja::Body body;
  std::string bos_token, eos_token;
};

ChatTemplate::ChatTemplate(std::string_view source, std::string bos_token, std::string eos_token)
    : data_(std::make_unique<const Data>(
          Data{jinja::parse_template(source), std::move(bos_token), std::move(eos_token)})) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

std::optional<ChatTemplate> ChatTemplate::find(const std::filesystem::path& model_dir) {
  const auto config_path = model_dir / "tokenizer_config.json";
  const auto jinja_path = model_dir / "chat_template.jinja";
  std::optional<std::string> source;
  std::string bos_token, eos_token;
  if (std::filesystem::exists(config_path)) {
    const std::string where = config_path.string();
    const Json config = parse_json_file(config_path);
    bos_token = find_token_text(config, "bos_token", where).value_or("");
    eos_token = find_token_text(config, "eos_token", where).value_or("");
    source = template_of(config, where);
  }
  if (std::filesystem::exists(jinja_path)) source = read_text_file(jinja_path);
  if (!source) return std::nullopt;
  return ChatTemplate(*source, std::move(bos_token), std::move(eos_token));
}

ChatTemplate ChatTemplate::load(const std::filesystem::path& model_dir) {
  auto found = find(model_dir);
  if (!found) {
    fail(
        "{}: this model has no chat template (chat_template in tokenizer_config.json, or "
        "chat_template.jinja); use it with plain prompts.",
        model_dir.string());
  }
  return *std::move(found);
}

std::string ChatTemplate::render(std::span<const ChatMessage> messages, bool add_generation_prompt,
                                 std::int64_t work) const {
  jinja::List list;
  std::size_t bytes = 0;
  for (const ChatMessage& m : messages) {
    for (const std::string* s : {&m.role, &m.content}) {
      bytes += s->size();
      if (!is_valid_utf8(*s)) fail("A chat message is not valid UTF-8.");
    }
    list.push_back(
        jinja::make_dict({{"role", jinja::text(m.role)}, {"content", jinja::text(m.content)}}));
  }
  if (work == 0) work = jinja::Budget::default_work + 256 * static_cast<std::int64_t>(bytes);
  jinja::Budget budget(work);
  jinja::Interpreter interpreter({{"messages", jinja::make_list(std::move(list))},
                                  {"add_generation_prompt", jinja::boolean(add_generation_prompt)},
                                  {"bos_token", jinja::text(data_->bos_token)},
                                  {"eos_token", jinja::text(data_->eos_token)}},
                                 budget);
  return interpreter.run(data_->body);
}

}  // namespace fastkv
