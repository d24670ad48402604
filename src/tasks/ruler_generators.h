#pragma once

#include "tasks/ruler_prompts.h"

// One function a kind of task, defined in the kind's own file; ruler_prompts.cc lists them. They
// take the names of ruler_tasks() only.
//
// The reference shuffles a few lists with a generator that it seeds anew each time. Those lists
// are in random order already, so here they are shuffled like all others, or not at all.

namespace fastkv {

std::unique_ptr<RulerGenerator> make_ruler_needles(std::string_view task,
                                                   const RulerSetting& setting);
std::unique_ptr<RulerGenerator> make_ruler_variables(std::string_view task,
                                                     const RulerSetting& setting);
std::unique_ptr<RulerGenerator> make_ruler_common_words(std::string_view task,
                                                        const RulerSetting& setting);
std::unique_ptr<RulerGenerator> make_ruler_frequent_words(std::string_view task,
                                                          const RulerSetting& setting);
std::unique_ptr<RulerGenerator> make_ruler_questions(std::string_view task,
                                                     const RulerSetting& setting);

}  // namespace fastkv
