#include "tasks/infinitebench_prompts.h"

// The prompts of InfiniteBench's scripts (https://github.com/OpenBMB/InfiniteBench, src/prompt.py),
// with its spelling. Per task: its name, how many tokens the answer may have, the prompt for models
// that go on with a text, and the one for chat models.

namespace fastkv {
namespace {

constexpr InfiniteBenchPrompt table[] = {
    {"passkey", 6,
     "There is an important info hidden inside a lot of irrelevant text. Find it and "
     "memorize it. I will quiz you about the important information.\n\n"
     "{context}\n\n"
     "{input}\n\n"
     "The pass key is",
     "There is an important info hidden inside a lot of irrelevant text. Find it and "
     "memorize them. I will quiz you about the important information there.\n\n"
     "{context}\n\n"
     "{input}"},
    {"number_string", 12,
     "There is an important info hidden inside a lot of irrelevant text. Find it. I will "
     "quiz you about the important information there.\n\n"
     "{context}\n\n"
     "{input}\n\n"
     "The sequence of digits is",
     "There is an important info hidden inside a lot of irrelevant text. Find it. I will "
     "quiz you about the important information there.\n\n"
     "{context}\n\n"
     "{input}"},
    {"kv_retrieval", 50,
     "Extract the value corresponding to the specified key in the JSON object below.\n\n"
     "{context}\n\n"
     "{input}",
     "Extract the value corresponding to the specified key in the JSON object below.\n\n"
     "{context}\n\n"
     "{input}"},
    {"longbook_sum_eng", 1200,
     "Summarize the book below.\n\n"
     "{context}\n\n"
     "Summary:",
     "Summarize the following book.\n\n"
     "{context}"},
    {"longbook_qa_eng", 40,
     "Read the book and answer the question. Be very concise in your answer.\n\n"
     "{context}\n\n"
     "Question: {question}\n"
     "Answer:",
     "Read the book below and answer a question.\n\n"
     "{context}\n\n"
     "Question: {question}\n\n"
     "Be very concise."},
    {"longbook_choice_eng", 40,
     "Read the book and answer the question.\n\n"
     "{context}\n\n"
     "Question: {question}\n"
     "A. {OPTION_A}\n"
     "B. {OPTION_B}\n"
     "C. {OPTION_C}\n"
     "D. {OPTION_D}\n\n"
     "The letter of the correct answer is",
     "Read the book and answer the question.\n\n"
     "{context}\n\n"
     "Question: {question}\n\n"
     "Only one of the following options is correct, tell me the answer using one single "
     "letter (A, B, C, or D). Don't say anything else.\n"
     "A. {OPTION_A}\n"
     "B. {OPTION_B}\n"
     "C. {OPTION_C}\n"
     "D. {OPTION_D}"},
    {"longbook_qa_chn", 40,
     "阅读以下书籍然后回答问题。\n\n"
     "{context}\n\n"
     "问题：{question}\n"
     "答案：",
     "请根据以下书籍回答我的问题。\n\n"
     "{context}\n\n"
     "问题：{question}\n"
     "请尽量简短地回答。"},
    {"longdialogue_qa_eng", 40,
     "Below is a dialogue script where one random occurrence of a character name is "
     "replaced with \"$$MASK$$\", and you should try to guess who that character is.\n\n"
     "{context}\n\n"
     "The name that has been replaced with $$MASK$$ is likely",
     "Below is a dialogue script where one random occurrence of a character name is "
     "replaced with \"$$MASK$$\", and you should try to guess who that character is.\n\n"
     "The dialogue:\n\n"
     "---\n\n"
     "{context}\n\n"
     "---\n\n"
     "End of dialogue.\n\n"
     "Which character is most likely \"$$MASK$$\"? Just say the name used by the "
     "scriptwriter (before the colon marks) of one single character and nothing else."},
    {"math_find", 3,
     "{prefix}\n\n"
     "{context}\n\n"
     "{input}",
     "{prefix}\n\n"
     "{context}\n\n"
     "{input}"},
    {"math_calc", 30000,
     "Let us calculate the intermediate values of an expression.\n\n"
     "Expression: 1 + 3 + 4\n"
     "Values: [1, 4, 8]\n\n"
     "Expression: 8 - 3 + 2 - 4\n"
     "Values: [8, 5, 7, 3]\n\n"
     "Expression: {context}\n"
     "Values:",
     "Compute the intermediate values in the following long expression.\n\n"
     "{context}"},
    {"code_run", 5,
     "There is a function called {func} in the following Python code.\n\n"
     "{context}\n\n"
     "Please compute the exact value of {func_call}. The value of {func_call} is",
     "Following is a set of Python functions. There is a function called named {func}.\n\n"
     "{context}\n\n"
     "Please give me the exact number of the return value of {func_call}. Be concise. "
     "Your response must end with the final returned value."},
    {"code_debug", 5,
     "Following is a Python code where exactly one of the functions/methods has a "
     "deliberate error that makes it crash.\n\n"
     "{context}\n\n"
     "Options:\n"
     "A. {OPTION_A}\n"
     "B. {OPTION_B}\n"
     "C. {OPTION_C}\n"
     "D. {OPTION_D}\n\n"
     "The correct option is:",
     "There is ONLY ONE function in the large project that is deliberately made to "
     "include an obvious error. Please find the function that contains the most obvious "
     "errors. I will give you four options to narrow your scope. You can inspect the "
     "options and think. Eventually, tell me the answer using one single letter (A, B, C, "
     "or D).\n\n"
     "{context}\n\n"
     "Which funtion has deliberate error?\n"
     "A. {OPTION_A}\n"
     "B. {OPTION_B}\n"
     "C. {OPTION_C}\n"
     "D. {OPTION_D}\n\n"
     "You should first find the functions in the options. Repeat their content, inspect "
     "through code, and at last give me your answer for the function that has the "
     "deliberate and obvious error in A, B, C, or D."},
};

}  // namespace

const InfiniteBenchPrompt* find_infinitebench_prompt(std::string_view task) {
  for (const InfiniteBenchPrompt& prompt : table) {
    if (prompt.task == task) return &prompt;
  }
  return nullptr;
}

}  // namespace fastkv
