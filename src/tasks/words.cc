#include "tasks/words.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/error.h"
#include "core/json.h"
#include "metrics/python_text.h"
#include "tasks/data_file.h"

namespace fastkv {
namespace {

constexpr const char* own_nouns = R"(
acorn airport alley almond anchor angle ankle apple apron arch arrow attic autumn axle bakery balcony
ballad bamboo banana bank banner barn barrel basin basket bath beach bead beam bean bear beard beaver
bedroom bell belt bench berry bicycle birch bird biscuit blanket boat bolt bone bonnet book boot border
bottle boulder bowl box branch brass bread breeze brick bridge brook broom brush bucket buckle bulb
bundle bus butter button cabbage cabin cable cake camel camera canal candle canoe canvas canyon cape
captain caravan card cargo carpet carrot cart castle cave cedar ceiling cellar chain chair chalk chapel
cheese cherry chest chimney choir church circle circus clay cliff clock cloud clover coach coal coast
coat coin collar comb compass copper coral cork corner cottage cotton couch courtyard crab cradle crane
crate cricket crown cup curtain cushion dairy dam dancer dawn deck deer desert desk dew diary dish dock
dome donkey door dove dragon drawer dress drill drum duck dune eagle easel echo elbow elm engine envelope
evening fabric falcon farm feather fence fern ferry fiddle field fig fire fish flag flame flask fleece
flood floor flour flower flute fog folder forest fork fort fountain fox frame frost fruit funnel gallery
garage garden garlic gate geese ginger glacier glass glove glue goat gold goose grain granite grape grass
gravel grove guitar gull gutter hail hammer hammock harbor harp harvest hat hawk hay hazel hearth hedge
helmet hen heron hill hinge hive honey hood hoof hook horn horse hotel hut ice ink inn iris iron island
ivory ivy jacket jar jasmine jetty jewel jug juice jungle kettle key kiln kitchen kite knee knife knot
label lace ladder lagoon lake lamb lamp lantern larch lark lattice laundry lawn leaf leather ledge lemon
letter lever library lily lime linen lion lobster lock loft log loom lumber lute magnet mall mantle map
maple marble market marsh mast mattress meadow medal melon mill mint mirror mitten moat mole monk moon
moss moth motor mountain mouse mouth museum mushroom music nail napkin needle nest net nettle night noon
north notebook nut oak oar oasis oat ocean office olive onion opera orange orchard organ otter oven owl
ox oyster paddle page paint palace palm pan panel paper parcel parlor parrot parsley path peach pear
pearl pebble pelican pencil pepper perch piano picnic pigeon pillar pillow pine pipe pitcher plain planet
plank plate plow plum pocket pole pond pony poplar porch port porter potato pottery powder prairie print
prism pulley pump pumpkin puppet quarry quartz quay quill quilt rabbit radio radish raft rail rain rake
ranch raven reed reef ribbon rice ridge ring river road robin rock roof room rooster root rope rose
rowboat ruby rudder rug ruler saddle sail salad salmon salt sand sandal sash satchel saucer sauna saw
scale scarf school scissors scooter seal seam seed shed sheep shelf shell shield ship shirt shoe shore
shovel shutter silk silver sink skate ski sky slate sled sleeve slipper slope snail snow soap sock sofa
soil soup spade sparrow spear spice spider spinach spire spoon spring spruce square squash stable stage
stair stamp star station steam steel steeple stem step stool stork storm stove strap straw stream string
studio sugar suitcase summer sunset swamp swan sweater syrup table tailor tank tapestry tavern tea temple
tent terrace theater thicket thimble thistle thread throne thumb ticket tiger tile timber toast toad
tomato tongs tool torch tower town track trail train tray treasure tree trellis trench trumpet trunk
tulip tunnel turbine turnip turtle twig umbrella valley van vase vault veil velvet vessel viaduct village
vine violet violin wagon waist wall wallet walnut walrus warehouse watch water wave wax weaver well
whale wharf wheat wheel whistle willow window wine wing winter wire wolf wood wool workshop wreath wren
yard yarn yew zebra zinc)";

constexpr const char* own_adjectives = R"(
able acid active agile amber ample ancient angry annual arid awake bare basic bitter blank blind blue bold
brave brief bright brisk broad bronze brown busy calm careful cheap chief civil clean clear clever close
cloudy coarse cold common cool correct cozy crimson crisp curious curved daily damp dark dear deep dense
dim direct distant dry dull dusty eager early easy elastic empty equal exact extra faint fair faithful
famous fancy fast fine firm flat fond formal frail fresh friendly full gentle giant glad golden good
grand grateful grave gray great green handy happy hard harsh hasty heavy hidden high hollow honest hot
huge humble hungry ideal idle inner jolly keen kind large late lazy lean light little lively local lonely
long loose loud lovely low loyal lucky major mellow mild minor modern modest moist narrow native neat new
nimble noble noisy normal northern odd old olden open orderly outer pale patient plain polite poor precise
pretty prime private proper proud pure purple quaint quick quiet rapid rare raw ready real red regular
rich rigid ripe robust rocky rough round royal rural rusty safe salty scarlet secret serene shallow sharp
shiny short shy silent simple single sleepy slender slim slow small smooth sober soft solemn solid sour
southern spare square stable stately steady steep stern stiff still stout strange strict strong sturdy
subtle sudden sunny sweet swift tall tame tart tender thick thin tidy tight tiny tough tranquil true
useful usual vague vast velvety violet warm wary weak wealthy western wet white whole wide wild wise
witty wooden yearly yellow young zesty)";

constexpr const char* own_verbs = R"(
accept add admire admit agree allow answer appear argue arrange arrive ask assemble attend bake balance
begin believe bend bind borrow bounce bow breathe bring build burn buy call carry carve cast catch
celebrate change chase choose chop claim clap climb collect compare complain connect consider contain
cook copy count cover crawl create cross cut dance decide deliver depend describe design dig discover
divide draw dream drift drink drive drop earn eat encourage enjoy enter escape examine explain explore
fetch fill find finish fix float flow fly fold follow forget forgive gather give glow go grow guard guess
guide happen hear help hesitate hide hold hope hum hunt hurry imagine improve inform invent invite join
juggle jump keep kneel knit know laugh lead lean learn leave lend lift listen live look lose make march
measure meet melt mend mix move nod notice obey observe offer paste pause perform permit pick plant play
pour practice praise prefer prepare present press promise pull push reach read receive recite recognize
remain remember repair repeat reply rescue rest return ride rinse rise roam roll row run sail save scatter
search sell send sew shake share shout show shut sift sing sit sketch sleep slide smile solve sort speak
spell spend spin stand stay steer stir stretch study succeed suggest swim swing talk taste teach tell
thank think throw tie touch travel trust try turn understand unpack use visit wait wake walk wander want
warn wash wave weave weigh welcome whisper win wipe wish wonder work wrap write yawn yield)";

std::vector<std::string> sorted(std::vector<std::string> words) {
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
  return words;
}

std::vector<std::string> words_of(const char* text) {
  std::istringstream stream(text);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return sorted(std::move(words));
}

/// One word a line; some have spaces inside.
std::vector<std::string> lines_of(const std::filesystem::path& path) {
  std::istringstream stream(read_text_file(path));
  std::vector<std::string> words;
  for (std::string line; std::getline(stream, line);) {
    const std::string_view word = python_strip(line);
    if (!word.empty()) words.emplace_back(word);
  }
  if (words.empty()) fail("{} has no words.", path.string());
  return sorted(std::move(words));
}

std::vector<std::string> compounds_of(const std::vector<std::string>& nouns) {
  std::vector<std::string> words;
  // Some ten thousand, enough for lists of 128K tokens; steps of 37 mix the second parts.
  for (std::size_t i = 0; i < nouns.size(); ++i) {
    for (std::size_t j = i % 37; j < nouns.size(); j += 37) {
      if (i != j) words.push_back(nouns[i] + nouns[j]);
    }
  }
  return sorted(std::move(words));
}

}  // namespace

const WordLists& WordLists::own() {
  static const WordLists lists = [] {
    WordLists made{words_of(own_nouns), words_of(own_adjectives), words_of(own_verbs), {}};
    made.more = compounds_of(made.nouns);
    return made;
  }();
  return lists;
}

WordLists WordLists::load(const std::filesystem::path& directory) {
  const auto inner = directory / "wonderwords";
  const auto folder = std::filesystem::is_directory(inner) ? inner : directory;
  WordLists lists{lines_of(folder / "nounlist.txt"),
                  lines_of(folder / "adjectivelist.txt"),
                  lines_of(folder / "verblist.txt"),
                  {}};
  // RULER's second list maps numbers to words.
  if (const auto path = find_packed_file(directory, "english_words.json")) {
    const Json json = parse_json(read_packed_file(*path), path->filename().string());
    for (const Json& word : json) {
      lists.more.push_back(to_text(word, "a word", path->filename().string()));
    }
    lists.more = sorted(std::move(lists.more));
  }
  return lists;
}

std::vector<std::string> WordLists::all(std::size_t count) const {
  std::vector<std::string> words = nouns;
  words.insert(words.end(), adjectives.begin(), adjectives.end());
  words.insert(words.end(), verbs.begin(), verbs.end());
  words = sorted(std::move(words));
  return words.size() >= count || more.size() <= words.size() ? words : more;
}

}  // namespace fastkv
