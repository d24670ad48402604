#include "tasks/own_text.h"

#include <cctype>
#include <map>
#include <string_view>
#include <vector>

#include "tasks/random.h"
#include "tasks/words.h"

namespace fastkv {
namespace {

// The grammar: {name} is replaced by one of the alternatives of that name, which may have such
// names inside. {topic}, {tool}, {worker} and {place} come from the paragraph's topic; {noun},
// {adj} from the lists of words.
using Grammar = std::map<std::string_view, std::vector<std::string_view>>;

const Grammar& grammar() {
  static const Grammar rules = {
      {"sentence",
       {"{When} the {worker} {did} the {adj} {tool} {where}.",
        "{Nobody} {knew} why the {tool} {stood} {where}.",
        "It took {time} to learn how {topic} {works}, and longer to learn when to stop.",
        "{Claim}, and {claim}.",
        "{Claim}, but {claim}.",
        "{Claim}.",
        "If the {noun} is too {adj}, the {tool} will {fail}.",
        "There was a {noun} {where}, and beside it {a_thing}.",
        "{Name} once told me that {claim}.",
        "{Name} and {name} {shared} {place} for {time}.",
        "\"{Claim},\" said {name}, and {did} the {tool} {where}.",
        "What {name} wanted was not {a_thing} but {time} of quiet.",
        "{When}, {claim}.",
        "Most people think that {claim}; {name} thought that {claim}.",
        "The reason is simple: {claim}.",
        "As far as {name} could see, {claim}, though {nobody} would have said so {when}.",
        "We kept {a_thing}, {a_thing} and {a_thing} {where}.",
        "How much {topic} costs depends on the {noun}, the weather, and the patience of the "
        "{worker}.",
        "A {adj} {noun} is worth more than {a_thing} when {topic} goes wrong.",
        "Later the {worker} {did} the {tool}, {did} the {noun}, and went home.",
        "You can tell a good {worker} by the {tool}.",
        "{When} {place} was full of {plural}, and {nobody} minded.",
        "Perhaps that is why {claim}.",
        "In the end the {noun} was {adj}, the {tool} was {adj}, and everybody was pleased."}},
      {"claim",
       {"{topic} is mostly a matter of {virtue}", "the {tool} has to be {adj}",
        "the old {worker} never trusted a {adj} {noun}", "{place} was {adj} in those days",
        "a {noun} without {virtue} is only {a_thing}",
        "{nobody} {knew} the {worker} better than {name}",
        "the best {plural} came from {name}'s side of the valley",
        "it is easier to mend a {noun} than to make one", "{name} had seen {a_thing} {where}",
        "the {worker} would rather wait {time} than hurry", "every {tool} has a sound of its own",
        "{virtue} cannot be bought with {plural}",
        "the first {time_unit} decides how the {noun} will turn out",
        "{topic} looks {adj} from outside", "the {plural} were gone before {name} arrived"}},
      {"when",
       {"in the morning", "after {time}", "before the frost", "on market days", "every autumn",
        "when the wind turned", "toward evening", "in a {adj} year", "during the long rain",
        "at the end of the week", "before anyone was awake", "when {name} was young"}},
      {"where",
       {"behind {place}", "next to the {noun}", "under the {adj} {noun}", "in {place}",
        "between two {plural}", "by the north door", "at the edge of the road",
        "on the {adj} shelf", "near the water", "where the {worker} could reach it"}},
      {"did",
       {"carried", "cleaned", "repaired", "painted", "measured", "weighed", "hid", "turned",
        "lifted", "examined", "put", "left", "found", "sketched", "oiled"}},
      {"stood", {"stood", "lay", "hung", "had been left", "rested", "was kept", "waited"}},
      {"works", {"works", "is done", "begins", "is taught", "can be ruined", "pays for itself"}},
      {"fail", {"crack", "stick", "drift", "bend", "slip", "rattle", "rust", "give way"}},
      {"shared", {"kept", "shared", "looked after", "rebuilt", "described", "owned", "swept"}},
      {"nobody",
       {"nobody", "hardly anyone", "no neighbour", "not even {name}", "few visitors",
        "no {worker}"}},
      {"knew", {"knew", "remembered", "asked", "could say", "understood", "wrote down"}},
      {"time",
       {"three years", "a whole winter", "half a day", "several weeks", "an hour", "two summers",
        "most of a decade", "a long afternoon", "ten minutes", "one {adj} month"}},
      {"time_unit", {"hour", "day", "week", "winter", "attempt", "season"}},
      {"a_thing",
       {"an empty {noun}", "a heap of {plural}", "the second {noun}", "some {adj} {plural}",
        "a letter about {topic}", "that {adj} {noun}", "one more {tool}", "a pair of {plural}"}},
      {"virtue",
       {"patience", "habit", "good light", "luck", "care", "practice", "trust", "timing",
        "a steady hand", "common sense", "curiosity", "clean water"}},
      {"plural", {"lanterns", "barrels",  "apples",  "ropes",  "bricks",  "visitors", "letters",
                  "nets",     "stones",   "baskets", "horses", "candles", "swallows", "maps",
                  "wheels",   "blankets", "songs",   "planks", "coins",   "clocks"}},
      {"name", {"Agnes", "Bertil", "Corinne", "Dario",  "Edda",  "Florian", "Greta", "Henrik",
                "Ilse",  "Jonas",  "Katrin",  "Lorenz", "Mirja", "Nils",    "Odile", "Pavel",
                "Ronja", "Silas",  "Tilda",   "Ulrik",  "Vera",  "Wanda",   "Yara",  "Zeno"}},
  };
  return rules;
}

struct Topic {
  std::string_view topic, tool, worker, place;
};
constexpr Topic topics[] = {
    {"fishing", "net", "fisherman", "the harbor"},
    {"baking bread", "oven", "baker", "the bakery"},
    {"growing apples", "ladder", "gardener", "the orchard"},
    {"milling grain", "millstone", "miller", "the water mill"},
    {"keeping bees", "hive", "beekeeper", "the far meadow"},
    {"binding books", "press", "bookbinder", "the library"},
    {"repairing clocks", "spring", "clockmaker", "the workshop"},
    {"running a railway", "signal", "stationmaster", "the station"},
    {"watching the stars", "telescope", "astronomer", "the observatory"},
    {"weaving", "loom", "weaver", "the weaving hall"},
    {"building boats", "keel", "shipwright", "the boatyard"},
    {"drawing maps", "compass", "surveyor", "the map room"},
    {"teaching arithmetic", "blackboard", "teacher", "the village school"},
    {"making paper", "vat", "papermaker", "the paper mill"},
    {"tuning pianos", "tuning fork", "tuner", "the concert hall"},
    {"forging iron", "anvil", "blacksmith", "the smithy"},
    {"carrying mail", "satchel", "postman", "the post office"},
    {"blowing glass", "furnace", "glassblower", "the glassworks"},
    {"predicting weather", "barometer", "observer", "the weather station"},
    {"cooking soup", "kettle", "cook", "the kitchen"},
    {"herding sheep", "whistle", "shepherd", "the upper pasture"},
    {"printing newspapers", "printing press", "printer", "the printing house"},
    {"cutting stone", "chisel", "mason", "the quarry"},
    {"running a ferry", "cable", "ferryman", "the landing"},
};

class Writer {
 public:
  std::string text(std::size_t bytes) {
    std::string all;
    while (all.size() < bytes) all += paragraph() + "\n\n";
    return all;
  }

 private:
  std::string paragraph() {
    topic_ = random_.pick(topics);
    std::string text;
    for (auto n = random_.between(4, 9); n > 0; --n) {
      text += (text.empty() ? "" : " ") + capital(expand("sentence"));
    }
    return text;
  }

  std::string expand(std::string_view name) {
    if (std::isupper(static_cast<unsigned char>(name[0]))) {
      std::string rule(name);
      rule[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(rule[0])));
      return capital(expand(rule));
    }
    if (name == "topic") return std::string(topic_.topic);
    if (name == "tool") return std::string(topic_.tool);
    if (name == "worker") return std::string(topic_.worker);
    if (name == "place") return std::string(topic_.place);
    if (name == "noun") return random_.pick(WordLists::own().nouns);
    if (name == "adj") return random_.pick(WordLists::own().adjectives);
    return fill(random_.pick(grammar().at(name)));
  }

  std::string fill(std::string_view rule) {
    std::string text;
    for (std::size_t i = 0; i < rule.size(); ++i) {
      if (rule[i] != '{') {
        text += rule[i];
        continue;
      }
      const std::size_t end = rule.find('}', i);
      const std::string part = expand(rule.substr(i + 1, end - i - 1));
      const bool needs_n = !part.empty() && std::string_view("aeiou").find(part[0]) < 5;
      if (needs_n && (text.ends_with(" a ") || text == "a " || text == "A ")) {
        text.back() = 'n';
        text += ' ';
      }
      text += part;
      i = end;
    }
    return text;
  }

  static std::string capital(std::string text) {
    text[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
    return text;
  }

  Random random_{1, "own prose"};
  Topic topic_ = topics[0];
};

}  // namespace

const std::string& own_prose() {
  static const std::string text = Writer().text(700'000);
  return text;
}

}  // namespace fastkv
