#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tasks/random.h"
#include "tasks/ruler_sources.h"
#include "tasks/sample.h"

// RULER's prompts (Hsieh et al. 2024, https://arxiv.org/abs/2404.06654,
// https://github.com/NVIDIA/RULER). A generator draws one prompt with a given amount of filling;
// how much of it fits into a context is found elsewhere (ruler_size.h).

namespace fastkv {

struct RulerPrompt {
  std::string context, question, answer_prefix;
  std::vector<std::string> answers;
};

/// How a generator's prompts grow: in lines, words, or documents.
struct RulerGrowth {
  std::int64_t least = 1;   // smaller makes no sense
  std::int64_t low = 1;     // where the search begins
  std::int64_t step = 1;    // what a sample loses when it does not fit
  std::int64_t probe = 1;   // compared with the least size to see what a unit adds
  double headroom = 3.0;    // the search ends at this many times the estimate
  bool every_step = false;  // search the multiples of `step` instead, for a prompt below the limit
};

class RulerGenerator {
 public:
  virtual ~RulerGenerator() = default;
  virtual RulerGrowth growth() const = 0;
  /// Prompt number `index` with `size` units of filling; other draws give other prompts.
  virtual RulerPrompt draw(Random& random, std::int64_t size, std::int64_t index) const = 0;
  /// How many samples there can be at most; 0: any number.
  virtual std::int64_t most_samples() const { return 0; }
};

/// What a generator works for. Prompts have up to `tokens` tokens, the answer included.
struct RulerSetting {
  std::int64_t context = 0;  // length asked for, which some tasks' sizes depend on
  std::int64_t tokens = 0;   // what is left of it beside the chat template
  std::int64_t seed = 0;
  RulerSources& sources;
  const Codec& codec;
};

/// The generator of one of RULER's tasks. What `setting` refers to must outlive it.
std::unique_ptr<RulerGenerator> make_ruler_generator(std::string_view task,
                                                     const RulerSetting& setting);

/// Tokens that a task's answer may have.
std::int64_t ruler_answer_tokens(std::string_view task);
/// What stands between a task's context and its question.
std::string_view ruler_question_mark(std::string_view task);
/// How a task's answer prefix begins, in every version of RULER.
std::string_view ruler_prefix_mark(std::string_view task);

}  // namespace fastkv
