#include "tasks/ruler_sources.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "metrics/python_text.h"
#include "tasks/data_file.h"
#include "tasks/own_text.h"

namespace fastkv {
namespace fs = std::filesystem;
namespace {

/// The first of these files that is there, whole.
Json read_first_of(const fs::path& directory, std::initializer_list<const char*> names) {
  std::string tried;
  for (const char* name : names) {
    if (const auto path = find_packed_file(directory, name)) {
      return parse_json(read_packed_file(*path), path->filename().string());
    }
    tried += (tried.empty() ? "" : " or ") + std::string(name);
  }
  fail("there is no {} (or .gz, .xz) in {}; RULER's download scripts make it.", tried,
       directory.string());
}

/// Documents by their text, numbered in the order of their texts.
class DocumentSet {
 public:
  explicit DocumentSet(std::vector<std::string> texts) : texts_(std::move(texts)) {
    std::sort(texts_.begin(), texts_.end());
    texts_.erase(std::unique(texts_.begin(), texts_.end()), texts_.end());
  }
  std::size_t number_of(const std::string& text) const {
    return static_cast<std::size_t>(std::lower_bound(texts_.begin(), texts_.end(), text) -
                                    texts_.begin());
  }
  std::vector<std::string> take() { return std::move(texts_); }

 private:
  std::vector<std::string> texts_;
};

/// https://rajpurkar.github.io/SQuAD-explorer, version 2.0: questions with an answer.
QaSet read_squad(const Json& json) {
  const char* where = "the SQuAD file";
  std::vector<std::string> texts;
  for (const Json& article : get_array(json, "data", where)) {
    for (const Json& paragraph : get_array(article, "paragraphs", where)) {
      texts.push_back(get_string(paragraph, "context", where));
    }
  }
  DocumentSet documents(std::move(texts));
  QaSet set;
  for (const Json& article : get_array(json, "data", where)) {
    std::vector<std::size_t> paragraphs;
    for (const Json& paragraph : get_array(article, "paragraphs", where)) {
      paragraphs.push_back(documents.number_of(get_string(paragraph, "context", where)));
    }
    std::size_t at = 0;
    for (const Json& paragraph : get_array(article, "paragraphs", where)) {
      const std::size_t gold = paragraphs[at++];
      std::vector<std::size_t> more;
      std::copy_if(paragraphs.begin(), paragraphs.end(), std::back_inserter(more),
                   [&](std::size_t number) { return number != gold; });
      for (const Json& qa : get_array(paragraph, "qas", where)) {
        if (find_bool(qa, "is_impossible", where).value_or(false)) continue;
        std::vector<std::string> answers;
        for (const Json& answer : get_array(qa, "answers", where)) {
          answers.push_back(get_string(answer, "text", where));
        }
        set.questions.push_back({get_string(qa, "question", where), answers, {gold}, more});
      }
    }
  }
  set.documents = documents.take();
  return set;
}

/// https://hotpotqa.github.io, dev set with distractors.
QaSet read_hotpotqa(const Json& json) {
  const char* where = "the HotpotQA file";
  if (!json.is_array()) fail("{} must be a JSON array.", where);
  const auto text_of = [&](const Json& paragraph) {
    if (!paragraph.is_array() || paragraph.size() != 2) {
      fail("{}: a paragraph must be a title and its sentences.", where);
    }
    std::string text = to_text(paragraph[0], "title", where) + "\n";
    for (const Json& sentence : paragraph[1]) text += to_text(sentence, "sentence", where);
    return text;
  };
  std::vector<std::string> texts;
  for (const Json& row : json) {
    for (const Json& paragraph : get_array(row, "context", where)) {
      texts.push_back(text_of(paragraph));
    }
  }
  DocumentSet documents(std::move(texts));
  QaSet set;
  for (const Json& row : json) {
    std::vector<std::size_t> gold;
    for (const Json& paragraph : get_array(row, "context", where)) {
      gold.push_back(documents.number_of(text_of(paragraph)));
    }
    set.questions.push_back(
        {get_string(row, "question", where), {get_string(row, "answer", where)}, gold, {}});
  }
  set.documents = documents.take();
  return set;
}

}  // namespace

const WordLists& RulerSources::words() {
  if (directory_.empty()) return WordLists::own();
  if (!words_) words_ = std::make_unique<WordLists>(WordLists::load(directory_));
  return *words_;
}

void RulerSources::read_essays() {
  if (directory_.empty()) {
    essay_words_ = python_split(own_prose());
    return;
  }
  const Json json = read_first_of(directory_, {"PaulGrahamEssays.json"});
  essay_words_ = python_split(get_string(json, "text", "PaulGrahamEssays.json"));
  if (essay_words_.empty()) fail("PaulGrahamEssays.json has no text.");
  if (const auto path = find_packed_file(directory_, "punkt_english.json")) {
    splitter_ = SentenceSplitter::load(*path);
  }
}

const std::vector<std::string>& RulerSources::sentences(std::int64_t count) {
  if (essay_words_.empty()) read_essays();
  if (const auto known = sentences_.find(count); known != sentences_.end()) return known->second;
  // Fitting asks for few lengths; of a long run the old ones are not needed again.
  if (sentences_.size() >= 16) sentences_.clear();
  std::string text;
  for (std::int64_t i = 0; i < count; ++i) {
    if (i > 0) text += ' ';
    text += essay_words_[static_cast<std::size_t>(i) % essay_words_.size()];
  }
  return sentences_[count] = splitter_.split(text);
}

const QaSet& RulerSources::squad() {
  if (directory_.empty()) return own_qa();
  if (!squad_) {
    squad_ = std::make_unique<QaSet>(read_squad(
        read_first_of(directory_, {"squad.json", "dev-v2.0.json", "squad_dev_v2.0_subset.json"})));
  }
  return *squad_;
}

const QaSet& RulerSources::hotpotqa() {
  if (directory_.empty()) return own_two_step_qa();
  if (!hotpotqa_) {
    hotpotqa_ = std::make_unique<QaSet>(read_hotpotqa(
        read_first_of(directory_, {"hotpotqa.json", "hotpot_dev_distractor_v1.json"})));
  }
  return *hotpotqa_;
}

}  // namespace fastkv
