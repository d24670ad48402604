// `fastkv eval` as a user runs it: killed, gone on with, in parts, with bad input.

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <sstream>
#include <thread>

#include "cli/program.h"

namespace fastkv::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class Eval : public ProgramTest {
 protected:
  std::string folder(const std::string& name) const { return (directory_ / name).string(); }

  static std::string read(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    EXPECT_TRUE(in) << path;
    return {std::istreambuf_iterator<char>(in), {}};
  }
  static std::size_t lines_of(const std::string& path) {
    const std::string text = read(path);
    return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
  }
  /// A summary without what differs from run to run.
  static json summary(const std::string& out, const std::string& benchmark = "needle") {
    json whole = json::parse(read(out + "/" + benchmark + ".json"));
    for (json& configuration : whole["configurations"]) {
      for (json& context : configuration["contexts"]) context.erase("costs");
    }
    return whole;
  }
  static std::string tables(const std::string& out) {
    const std::string text = read(out + "/needle.md");
    return text.substr(0, text.find("## Time"));
  }
};

const std::string needle =
    "eval needle --context 400,500 --depths 0,40,80,100 --method full,fastkv --retain 0.1,0.2 "
    "--needle 'One of the special magic numbers for old-dog is: 4711123.' --answer 4711123 "
    "--question 'What is the special magic number for old-dog?' --out ";

/// Starts the program and kills it a while after `reached`; whether it had ended by itself, as it
/// should. (By its progress, not by the clock alone: other programs may take the processor.)
bool run_and_kill(const std::string& arguments, const std::function<bool()>& reached,
                  std::chrono::milliseconds after) {
  const pid_t child = fork();
  if (child == 0) {
    const std::string command =
        std::string("exec ") + FASTKV_CLI + " " + arguments + " >/dev/null 2>&1";
    execl("/bin/sh", "sh", "-c", command.c_str(), static_cast<char*>(nullptr));
    _exit(127);
  }
  int status = 0;
  std::optional<std::chrono::steady_clock::time_point> end;
  bool ended = false;
  while (!ended && (!end || std::chrono::steady_clock::now() < *end)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    ended = waitpid(child, &status, WNOHANG) == child;
    if (!end && reached()) end = std::chrono::steady_clock::now() + after;
  }
  if (!ended) {
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
  }
  if (!WIFEXITED(status)) return false;
  EXPECT_EQ(WEXITSTATUS(status), 0);
  return true;
}

TEST_F(Eval, KilledAtAnyMomentAndGoneOnWithGivesTheSameSummary) {
  const std::string at_once = folder("at_once");
  const Result r = fastkv(needle + at_once);
  ASSERT_EQ(r.code, 0) << r.out;
  ASSERT_EQ(lines_of(at_once + "/needle.jsonl"), 1U + 2 * 4 * 3);

  const std::string killed = folder("killed");
  std::mt19937 random(11);
  const std::string path = killed + "/needle.jsonl";
  const auto lines = [&] { return fs::exists(path) ? lines_of(path) : 0; };
  int kills = 0;
  while (true) {
    // Every fourth time before the first answer, else behind one to three more.
    const std::size_t enough =
        kills % 4 == 0 ? 0 : std::max<std::size_t>(lines(), 1) + 1 + random() % 3;
    const std::chrono::milliseconds after(random() % (enough == 0 ? 300 : 50));
    if (run_and_kill(
            needle + killed, [&] { return lines() >= enough; }, after))
      break;
    ASSERT_LT(++kills, 200);
    // Now and then also as a crash of the machine leaves it.
    if (kills % 3 == 0 && fs::exists(path) && fs::file_size(path) > 40)
      fs::resize_file(path, fs::file_size(path) - 30);
  }
  ASSERT_GT(kills, 1) << "killed too late to test anything";
  EXPECT_EQ(lines_of(killed + "/needle.jsonl"), 1U + 2 * 4 * 3);
  EXPECT_EQ(summary(killed), summary(at_once));
  EXPECT_EQ(tables(killed), tables(at_once));
  for (const char* file :
       {"needle.scores.csv", "needle.html", "needle.fastkv-10.svg", "needle.full.png"})
    EXPECT_EQ(read(killed + "/" + file), read(at_once + "/" + file)) << file;

  // Nothing is left to do, and a torn line is said and mended.
  std::ofstream(killed + "/needle.jsonl", std::ios::app) << "{\"method\": \"ful";
  const Result again = fastkv(needle + killed);
  EXPECT_EQ(again.code, 0) << again.out;
  EXPECT_NE(again.out.find("the last line was cut off (15 bytes)"), std::string::npos) << again.out;
  EXPECT_NE(again.out.find("(24 answers are there)"), std::string::npos) << again.out;
  EXPECT_EQ(lines_of(killed + "/needle.jsonl"), 1U + 2 * 4 * 3);
  EXPECT_EQ(summary(killed), summary(at_once));

  // Results of another kind do not go into the same directory.
  expect_refused(needle + killed + " --protocol query-agnostic", "another protocol");
  expect_refused(needle + killed + " --prompt plain", "another --prompt");
  expect_refused(needle + killed + " --dtype float32", "another --dtype");
}

TEST_F(Eval, PartsMergeToTheWhole) {
  const std::string options =
      "eval ruler --task niah_single_1,niah_multikey_1 --context 300 --limit 3 --method snapkv "
      "--retain 0.5 --seed 7 --out ";
  const Result whole = fastkv(options + folder("whole"));
  ASSERT_EQ(whole.code, 0) << whole.out;
  const Result one = fastkv(options + folder("one") + " --shard 1/2");
  ASSERT_EQ(one.code, 0) << one.out;
  EXPECT_NE(one.out.find("part 1 of 2"), std::string::npos) << one.out;
  ASSERT_EQ(fastkv(options + folder("two") + " --shard 2/2").code, 0);
  EXPECT_EQ(lines_of(folder("one") + "/ruler.1-of-2.jsonl"), 1U + 2 + 2);
  EXPECT_EQ(lines_of(folder("two") + "/ruler.2-of-2.jsonl"), 1U + 1 + 1);
  const Result merged = fastkv("eval ruler --merge " + folder("two") + " " + folder("one") +
                               " --out " + folder("merged"));
  ASSERT_EQ(merged.code, 0) << merged.out;
  EXPECT_EQ(summary(folder("merged"), "ruler"), summary(folder("whole"), "ruler"));

  // Into one directory, and then the whole run finds all of it done.
  ASSERT_EQ(fastkv(options + folder("both") + " --shard 1/2").code, 0);
  ASSERT_EQ(fastkv(options + folder("both") + " --shard 2/2").code, 0);
  EXPECT_EQ(summary(folder("both"), "ruler"), summary(folder("whole"), "ruler"));
  const Result rest = fastkv(options + folder("both"));
  EXPECT_NE(rest.out.find("(6 answers are there)"), std::string::npos) << rest.out;
  EXPECT_EQ(lines_of(folder("both") + "/ruler.jsonl"), 1U);

  expect_refused("eval ruler --merge " + folder("nothing"), "no results of ruler");
  expect_refused("eval needle --merge " + folder("one"), "no results of needle");
}

TEST_F(Eval, ProtocolsSayWhatTheyDo) {
  const std::string options =
      "eval ruler --task niah_single_1 --context 300 --limit 1 --method full,h2o --out ";
  json full[3], lines[3];
  int i = 0;
  for (const char* protocol : {"query-aware", "query-agnostic", "reference"}) {
    const std::string out = folder(protocol);
    const Result r = fastkv(options + out + " --protocol " + protocol);
    ASSERT_EQ(r.code, 0) << r.out;
    EXPECT_NE(r.out.find(std::string("protocol  ") + protocol + ": "), std::string::npos) << r.out;
    std::istringstream text(read(out + "/ruler.jsonl"));
    std::string line;
    std::getline(text, line);
    EXPECT_EQ(json::parse(line)["run"]["protocol"], protocol);
    std::getline(text, line);
    full[i] = json::parse(line);
    std::getline(text, line);
    lines[i++] = json::parse(line);
  }
  // Where nothing is left out it does not matter when the question comes.
  EXPECT_EQ(full[0]["score"], 1.0) << full[0];
  EXPECT_EQ(full[0]["prediction"], full[1]["prediction"]);
  EXPECT_EQ(lines[0]["later_tokens"], 0);
  EXPECT_GT(lines[1]["later_tokens"].get<int>(), 10);
  EXPECT_EQ(lines[1]["prompt_tokens"].get<int>() + lines[1]["later_tokens"].get<int>(),
            lines[0]["prompt_tokens"].get<int>());
  // A tenth of the context alone is kept of it, and the question whole.
  EXPECT_EQ(lines[1]["kept"][0].get<int>(), lines[1]["prompt_tokens"].get<int>() / 10);
  EXPECT_EQ(lines[0]["options"]["granularity"], "kv-head");
  EXPECT_EQ(lines[2]["options"]["granularity"], "query-head");
  EXPECT_GT(lines[2]["heads"][0].get<int>(), lines[0]["heads"][0].get<int>());
}

TEST_F(Eval, MalformedRowsAreNamedAndCounted) {
  fs::create_directories(directory_ / "data" / "300");
  std::ofstream rows(directory_ / "data" / "300" / "niah_single_1.jsonl");
  const json good = {
      {"input",
       "A special magic number is hidden within the following text.\nThe special magic number for "
       "old-dog is: 4711123.\nWhat is the special magic number for old-dog mentioned in the "
       "provided text?"},
      {"answer_prefix", " The special magic number for old-dog mentioned in the provided text is"},
      {"outputs", {"4711123"}},
      {"length", 100}};
  rows << good.dump() << "\n{\"input\": 3}\n" << good.dump() << "\nnot json\n";
  rows.close();
  const std::string options = "eval ruler --task niah_single_1 --context 300 --ruler-files " +
                              folder("data") + " --method full --out " + folder("out");
  for (int round = 0; round < 2; ++round) {
    const Result r = fastkv(options);
    EXPECT_EQ(r.code, 2) << r.out;
    EXPECT_NE(r.out.find("niah_single_1.jsonl:2: "), std::string::npos) << r.out;
    EXPECT_NE(r.out.find("niah_single_1.jsonl:4: "), std::string::npos) << r.out;
    EXPECT_NE(r.out.find("2 rows of the data could not be used"), std::string::npos) << r.out;
    EXPECT_NE(r.out.find("niah_single_1 (n=2)"), std::string::npos) << r.out;
  }
  EXPECT_EQ(summary(folder("out"), "ruler")["issues"].size(), 2U);
  EXPECT_EQ(lines_of(folder("out") + "/ruler.jsonl"), 1U + 2 + 2) << "issues are written once";
}

/// Methods are compared on the same text.
TEST_F(Eval, DataThatChangedBetweenMethodsIsRefused) {
  fs::create_directories(directory_ / "data");
  file("data/dataset2prompt.json", R"({"qasper": "{context}\nQuestion: {input}\nAnswer:"})");
  file("data/dataset2maxlen.json", R"({"qasper": 4})");
  const auto rows = [&](const std::string& color, const std::string& more) {
    file("data/qasper.jsonl",
         R"({"context": "The fox is )" + color +
             R"(.", "input": "What is it?", "answers": ["fox"], "length": 5, "_id": "a"})" + "\n" +
             more);
  };
  const auto run = [&](const std::string& method) {
    return fastkv("eval longbench --task qasper --data " + folder("data") + " --out " +
                  folder("out") + " --method " + method);
  };
  rows("red", "{\n");
  EXPECT_EQ(run("full").code, 2) << "a row cannot be used";
  rows("red", "");
  EXPECT_EQ(run("full,snapkv").code, 0) << "the same row, and one that is gone";
  rows("blue", "");
  const Result other = run("full,snapkv,h2o");
  EXPECT_EQ(other.code, 2) << other.out;
  EXPECT_NE(other.out.find("sample a of qasper is not the one"), std::string::npos) << other.out;
  EXPECT_EQ(lines_of(folder("out") + "/longbench.jsonl"), 1U + 2 + 2) << "setting, issue, mended";
}

TEST_F(Eval, LongBenchNeedsWhatItsScoresNeedBeforeTheWork) {
  fs::create_directories(directory_ / "data");
  file("data/dataset2prompt.json",
       R"({"qasper": "{context}\nQuestion: {input}\nAnswer:", "dureader": "{context} {input}"})");
  file("data/dataset2maxlen.json", R"({"qasper": 8, "dureader": 8})");
  const std::string row =
      R"({"context": "The fox is red.", "input": "What is red?", "answers": ["the fox"],)"
      R"( "length": 5, "_id": "a"})"
      "\n";
  file("data/qasper.jsonl", row + row);
  file("data/dureader.jsonl", row);
  const Result r = fastkv("eval longbench --task qasper --method full --data " + folder("data") +
                          " --out " + folder("out"));
  EXPECT_EQ(r.code, 0) << r.out;
  EXPECT_NE(r.out.find("qasper (n=2)"), std::string::npos) << r.out;
  expect_refused("eval longbench --task dureader --method full --data " + folder("data") +
                     " --out " + folder("other"),
                 "jieba");
}

TEST_F(Eval, CalibrationIsReadByTheMethod) {
  const std::string json_file = folder("tsp.json");
  const Result r = fastkv("calibrate --samples 1 --context 400 --max-layer 2 --json " + json_file +
                          " --picture " + folder("tsp.png"));
  ASSERT_EQ(r.code, 0) << r.out;
  EXPECT_NE(r.out.find("chosen"), std::string::npos) << r.out;
  EXPECT_TRUE(read(folder("tsp.png")).starts_with("\x89PNG"));
  const json chosen = json::parse(read(json_file));
  const Result run = fastkv("run --prompt hello -n 1 --json --calibration " + json_file);
  EXPECT_EQ(json::parse(run.out)["report"]["options"]["tsp_layer"], chosen["tsp_layer"]);
  expect_refused("calibrate --max-layer 14", "outside the model");
  expect_refused("calibrate --picture a.gif", ".svg or .png");
  expect_refused("run --prompt a --calibration /nowhere.json", "/nowhere.json");
}

TEST_F(Eval, InspectWritesAPage) {
  const Result r = fastkv("inspect --prompt 'One. Two. Three. Four.' --method snapkv --html " +
                          folder("page.html"));
  ASSERT_EQ(r.code, 0) << r.out;
  EXPECT_TRUE(read(folder("page.html")).ends_with("</html>\n"));
  expect_refused("inspect", "give one prompt");
  expect_refused("inspect --prompt a --html /nowhere/page.html", "cannot be written");
  expect_refused("inspect --prompt a --method quest", "no method 'quest'");
}

TEST_F(Eval, RefusesBadInputBeforeTheModelLoads) {
  const std::string quick = "eval ruler --task vt --out " + folder("out") + " ";
  expect_refused("eval", "needle, ruler, longbench, longbench-e, infinitebench");
  expect_refused("eval chess", "'chess' is none of them");
  expect_refused("eval ruler --task chess --out " + folder("out"), "niah_single_1");
  expect_refused("eval longbench --out " + folder("out"), "--data DIR");
  expect_refused(quick + "--method quest", "no method 'quest'");
  expect_refused(quick + "--method full --tsp-layer 3", "--tsp-layer");
  expect_refused(quick + "--protocol best", "query-agnostic");
  expect_refused(quick + "--shard 3/2", "--shard");
  expect_refused(quick + "--shard 1", "--shard");
  expect_refused(quick + "--depths 50", "no option --depths");
  expect_refused(quick + "--context 4096,40000", "above the model's 32768 positions");
  expect_refused(quick + "--ruler-data a --ruler-files b", "leave one of them out");
  expect_refused(quick + "--model /nowhere", "/nowhere");
  expect_refused(quick + "--retain 2", "above 0 and at most 1");
  expect_refused("eval ruler --out /proc/nowhere", "/proc/nowhere");
  expect_refused("eval ruler --out " + file("a_file", "") + "/out", "a_file");
  EXPECT_FALSE(fs::exists(directory_ / "out" / "ruler.md"));
}

}  // namespace
}  // namespace fastkv::test
