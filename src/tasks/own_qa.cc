#include <fmt/core.h>

#include <string_view>

#include "tasks/own_text.h"
#include "tasks/random.h"
#include "tasks/ruler_sources.h"

// A country that does not exist, so that no model knows it: each village has a document, and each
// builder has one. A stretch of the project's own prose gives them length.

namespace fastkv {
namespace {

using Names = std::vector<std::string>;

constexpr std::size_t villages = 400;

/// Names made of two halves, in random order.
Names make_names(const std::vector<const char*>& begins, const std::vector<const char*>& ends,
                 Random& random) {
  Names names;
  for (const char* begin : begins) {
    for (const char* end : ends) names.push_back(std::string(begin) + end);
  }
  random.shuffle(names);
  return names;
}

/// Paragraph number i of the project's own prose.
std::string_view paragraph(std::size_t i) {
  static const auto all = [] {
    std::vector<std::string_view> found;
    const std::string_view text = own_prose();
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = text.find("\n\n", begin);
      found.push_back(text.substr(begin, end - begin));
      begin = end + 2;
    }
    return found;
  }();
  return all[i % all.size()];
}

struct Country {
  std::vector<std::string> documents;  // village i: 2 i, its builder: 2 i + 1
  std::vector<QaSet::Question> one_step, two_steps;
};

Country make_country() {
  static const std::vector<std::string> buildings = {
      "bell tower", "stone bridge", "town hall", "lighthouse", "granary", "theater", "aqueduct"};
  static const std::vector<std::string> goods = {
      "blue glass", "smoked trout", "rye bread",     "copper kettles", "woolen blankets",
      "violins",    "honey cake",   "painted tiles", "walnut oil",     "paper lanterns"};
  static const std::vector<std::string> trades = {"stonemason", "carpenter", "shipwright",
                                                  "surveyor", "blacksmith"};
  static const std::vector<std::string> first_names = {
      "Adela", "Brann", "Cilla",  "Doran", "Elsbeth", "Farid", "Gunda", "Halvar",
      "Ines",  "Jorun", "Kasper", "Liv",   "Marten",  "Nadja", "Oswin", "Petra"};
  Random random(2, "own questions");
  const Names village =
      make_names({"Ar",  "Bel", "Cor", "Dun", "El", "Far", "Gol",  "Hol", "Is",  "Jar",
                  "Kel", "Lor", "Mar", "Nor", "Os", "Pel", "Quar", "Rin", "Sel", "Tor"},
                 {"bach", "by",   "cote", "dale", "feld", "gard",   "ham", "holm", "lund", "mark",
                  "mere", "moor", "ness", "rode", "sted", "thorpe", "vik", "wald", "wick", "worth"},
                 random);
  const Names river =
      make_names({"Al",  "Br",  "Cal", "Dr", "Es", "Fl",  "Gr",  "Hav", "Ir", "Kr",
                  "Lum", "Mor", "Nid", "Or", "Pr", "Riv", "Sal", "Tr",  "Ul", "Vel"},
                 {"aga", "ana", "ava", "ela", "emme", "ena", "era", "esse", "ida", "ila",
                  "ima", "ina", "ira", "ola", "ona",  "ora", "una", "usa",  "ura", "yra"},
                 random);
  const Names surname =
      make_names({"Ab",    "Berg", "Cald", "Dahl", "Eck", "Falk", "Gran", "Hag",  "Ing",  "Jans",
                  "Kvist", "Lind", "Moss", "Nyl",  "Ost", "Palm", "Rask", "Sund", "Torn", "Wik"},
                 {"all", "aker", "beck", "born", "ding", "ell", "en",    "er",  "gren", "hof",
                  "ing", "ke",   "lof",  "man",  "ner",  "ow",  "quist", "rup", "son",  "strand"},
                 random);
  Country country;
  for (std::size_t i = 0; i < villages; ++i) {
    const std::string& home = village[i];
    const std::string builder = random.pick(first_names) + " " + surname[i];
    const std::string& birthplace =
        village[(i + 1 + static_cast<std::size_t>(random.below(villages - 1))) % villages];
    const std::string& building = random.pick(buildings);
    const std::string& good = random.pick(goods);
    const std::string& trade = random.pick(trades);
    const std::int64_t born = random.between(1610, 1890);
    const std::int64_t built = born + random.between(25, 60);
    const std::int64_t people = random.between(180, 9400);
    country.documents.push_back(fmt::format(
        "{0} is a village of {1} people on the river {2}. It is known for its {3}, and its {4} was "
        "finished in {5} by {6}. {7}",
        home, people, river[i], good, building, built, builder, paragraph(2 * i)));
    country.documents.push_back(fmt::format(
        "{0} was a {1}, born in {2} in the village of {3}. The {4} of {5} was the last large work "
        "of {0}. {6}",
        builder, trade, born, birthplace, building, home, paragraph(2 * i + 1)));
    const std::size_t about_village = 2 * i;
    const std::size_t about_builder = 2 * i + 1;
    // Villages round about come first when there is room.
    std::vector<std::size_t> near;
    for (std::size_t step = 1; step <= 15; ++step) {
      near.push_back(2 * ((i + step) % villages));
    }
    const auto ask = [&](std::string text, std::string answer, std::size_t gold) {
      country.one_step.push_back({std::move(text), {std::move(answer)}, {gold}, near});
    };
    if (i % 2 == 0) {
      ask(fmt::format("On which river does the village of {} lie?", home), river[i], about_village);
      ask(fmt::format("In which year was {} born?", builder), std::to_string(born), about_builder);
    } else {
      ask(fmt::format("Who built the {} of {}?", building, home), builder, about_village);
      ask(fmt::format("How many people live in {}?", home), std::to_string(people), about_village);
    }
    QaSet::Question two_steps{
        fmt::format("In which village was the builder of the {} of {} born?", building, home),
        {birthplace},
        {about_village, about_builder},
        near};
    country.two_steps.push_back(std::move(two_steps));
  }
  random.shuffle(country.one_step);
  random.shuffle(country.two_steps);
  return country;
}

const Country& country() {
  static const Country made = make_country();
  return made;
}

}  // namespace

const QaSet& own_qa() {
  static const QaSet set{country().documents, country().one_step};
  return set;
}

const QaSet& own_two_step_qa() {
  static const QaSet set{country().documents, country().two_steps};
  return set;
}

}  // namespace fastkv
