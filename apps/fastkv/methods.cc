#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "command.h"
#include "output.h"

namespace fastkv::cli {
namespace {

struct MethodsOptions {
  std::string model;
  bool json = false;
  bool markdown = false;

  void visit(OptionVisitor& v) {
    v.text("model", "DIR", model,
           "show the defaults for this checkpoint (default: for LLaMA-3.1-8B)");
    v.flag("json", json, "print as JSON");
    v.flag("markdown", markdown, "print as Markdown");
  }
};

nlohmann::ordered_json to_json(const MethodInfo& method) {
  nlohmann::ordered_json out = {
      {"name", method.name}, {"summary", method.summary}, {"paper", method.paper}};
  out["options"] = nlohmann::ordered_json::array();
  for (const OptionInfo& o : method.options) {
    out["options"].push_back(
        {{"name", o.name}, {"value", o.value_name}, {"default", o.fallback}, {"help", o.help}});
  }
  return out;
}

std::string to_markdown(const MethodInfo& method) {
  std::string text = fmt::format("## {}\n\n{} ({})\n\n", method.name, method.summary, method.paper);
  if (method.options.empty()) return text + "No options.\n\n";
  Table table({"option", "default", "meaning"});
  for (const OptionInfo& o : method.options) {
    std::string value = o.value_name;
    for (std::size_t at = 0; (at = value.find('|', at)) != std::string::npos; at += 2)
      value.insert(at, "\\");
    table.add({fmt::format("`--{}` {}", o.name, value), o.fallback, o.help});
  }
  return text + table.markdown() + "\n";
}

int run(std::span<const std::string> arguments) {
  MethodsOptions o;
  refuse_words(read_arguments(arguments, o, "methods"), "methods");
  if (o.json && o.markdown)
    throw Error("--json and --markdown are two ways to print; leave one out");
  const std::vector<MethodInfo> methods = o.model.empty() ? list_methods() : list_methods(o.model);
  if (o.json) {
    nlohmann::ordered_json all = nlohmann::ordered_json::array();
    for (const MethodInfo& m : methods) all.push_back(to_json(m));
    fmt::print("{}\n", all.dump(1));
    return 0;
  }
  for (const MethodInfo& m : methods) {
    if (o.markdown) {
      fmt::print("{}", to_markdown(m));
    } else {
      fmt::print("{}: {}\n  {}\n{}\n", m.name, m.summary, m.paper, format_options(m.options));
    }
  }
  return 0;
}

}  // namespace

Command methods_command() {
  return {.name = "methods",
          .summary = "Lists the methods with their options, defaults and papers.",
          .usage = "[options]",
          .details = "",
          .options = [] { return list_options(MethodsOptions{}); },
          .method_options = false,
          .run = run};
}

}  // namespace fastkv::cli
