#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tasks/sentences.h"
#include "tasks/words.h"

namespace fastkv {

/// Questions about documents.
struct QaSet {
  struct Question {
    std::string text;
    std::vector<std::string> answers;
    std::vector<std::size_t> gold;  // documents that have the answer
    std::vector<std::size_t> more;  // documents that go first when there is room
  };
  std::vector<std::string> documents;
  std::vector<Question> questions;
};

/// The project's own: documents about villages and their builders that a small grammar made.
/// Questions have their answer in one document, or lead from one to another.
const QaSet& own_qa();
const QaSet& own_two_step_qa();

/// What RULER's prompts are made of: the original word lists, essays and questions of a directory,
/// or the project's own. Each part is read when it is first asked for.
class RulerSources {
 public:
  /// An empty path: the project's own.
  explicit RulerSources(std::filesystem::path directory) : directory_(std::move(directory)) {}

  const WordLists& words();
  /// The sentences of the essays' first `count` words; the essays repeat when they are too short.
  const std::vector<std::string>& sentences(std::int64_t count);
  const QaSet& squad();
  const QaSet& hotpotqa();

 private:
  void read_essays();

  std::filesystem::path directory_;
  std::unique_ptr<WordLists> words_;
  std::vector<std::string> essay_words_;
  SentenceSplitter splitter_;
  std::map<std::int64_t, std::vector<std::string>> sentences_;  // by number of words
  std::unique_ptr<QaSet> squad_, hotpotqa_;
};

}  // namespace fastkv
