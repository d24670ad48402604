#include "tasks/ruler_prompts.h"

#include <algorithm>

#include "core/error.h"
#include "metrics/ruler_metrics.h"
#include "tasks/ruler_generators.h"

namespace fastkv {
namespace {

/// Tasks whose names begin alike.
struct TaskKind {
  std::string_view prefix;
  std::int64_t answer_tokens;
  std::string_view question_mark, prefix_mark;
  std::unique_ptr<RulerGenerator> (*make)(std::string_view task, const RulerSetting& setting);
};
constexpr TaskKind kinds[] = {
    {"niah", 128, "\nWhat ", " The special magic ", make_ruler_needles},
    {"vt", 30, "\nQuestion:", " Answer: ", make_ruler_variables},
    {"cwe", 120, "\nQuestion:", " Answer: ", make_ruler_common_words},
    {"fwe", 50, "\nQuestion:", " Answer: ", make_ruler_frequent_words},
    {"qa", 32, "\n\nAnswer the question based on", " Answer:", make_ruler_questions},
};

const TaskKind& kind_of(std::string_view task) {
  const auto* found = std::find_if(std::begin(kinds), std::end(kinds), [&](const TaskKind& kind) {
    return task.starts_with(kind.prefix);
  });
  if (!find_ruler_task(task) || found == std::end(kinds)) fail("RULER has no task '{}'.", task);
  return *found;
}

}  // namespace

std::unique_ptr<RulerGenerator> make_ruler_generator(std::string_view task,
                                                     const RulerSetting& setting) {
  return kind_of(task).make(task, setting);
}

std::int64_t ruler_answer_tokens(std::string_view task) { return kind_of(task).answer_tokens; }
std::string_view ruler_question_mark(std::string_view task) { return kind_of(task).question_mark; }
std::string_view ruler_prefix_mark(std::string_view task) { return kind_of(task).prefix_mark; }

}  // namespace fastkv
