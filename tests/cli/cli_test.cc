// The program as a user meets it: exit codes, sentences, files.

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/program.h"

namespace fastkv {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

using test::fastkv;
using test::Result;

const std::string source = FASTKV_SOURCE_DIR;
const std::string fixture = source + "/tests/fixtures/tiny-llama";

class Cli : public test::ProgramTest {
 protected:
  /// A copy of the fixture whose config.json has some fields changed.
  std::string changed_model(const json& changes) {
    const fs::path copy = directory_ / "model";
    fs::remove_all(copy);
    fs::create_directories(copy);
    json config = json::parse(std::ifstream(fixture + "/config.json"));
    config.update(changes);
    std::ofstream(copy / "config.json") << config.dump();
    fs::create_symlink(fixture + "/model.safetensors", copy / "model.safetensors");
    return copy.string();
  }
  std::string ids() { return file("ids.json", "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]"); }
};

TEST_F(Cli, HelpIsThereForEveryCommand) {
  const Result overview = fastkv("--help");
  EXPECT_EQ(overview.code, 0);
  for (const char* command : {"run", "demo", "bench", "methods", "info", "tokenize", "score"}) {
    EXPECT_NE(overview.out.find(command), std::string::npos) << command;
    const Result help = fastkv(std::string(command) + " --help");
    EXPECT_EQ(help.code, 0) << command;
    EXPECT_NE(help.out.find("options:"), std::string::npos) << command;
  }
  const std::string run = fastkv("run --help").out;
  for (const char* option :
       {"--method",       "--mode",         "--retain",     "--capacity",    "--tsp-layer",
        "--tsp-rate",     "--tsp-len",      "--window",     "--kernel",      "--pooling",
        "--filter-layer", "--recent-ratio", "--decay",      "--granularity", "--device",
        "--dtype",        "--threads",      "--ignore-eos", "--trace",       "--seed"}) {
    EXPECT_NE(run.find(option), std::string::npos) << option;
  }
}

TEST_F(Cli, TraceEqualsTheGoldenCases) {
  const json golden = json::parse(std::ifstream(fixture + "/golden.json"));
  const std::string trace = (directory_ / "trace.json").string();
  for (const std::size_t index : {1U, 3U, 9U, 12U, 14U, 16U, 20U}) {
    const json& want = golden["cases"][index];
    const std::string prompt = file(
        "prompt.json", golden["prompts"][std::to_string(want["prompt_len"].get<int>())].dump());
    std::string options;
    for (const auto& [key, value] : want["options"].items()) {
      std::string name = key;
      std::replace(name.begin(), name.end(), '_', '-');
      if (name == "group") {
        options += value.get<bool>() ? "" : " --granularity query-head";
      } else {
        options +=
            " --" + name + " " + (value.is_string() ? value.get<std::string>() : value.dump());
      }
    }
    const Result r = fastkv("run --model " + fixture + " --dtype float32 --prompt-ids " + prompt +
                            " -n 12 --ignore-eos --method " + want["method"].get<std::string>() +
                            options + " --trace " + trace);
    ASSERT_EQ(r.code, 0) << r.out;
    const json got = json::parse(std::ifstream(trace));
    for (const char* field : {"method", "prompt_len", "layer_tokens", "kv_len", "kv_heads", "kept",
                              "propagated", "greedy"}) {
      EXPECT_EQ(got[field], want[field]) << field << options;
    }
  }
}

TEST_F(Cli, AnswersWithTheBundledModelAndReports) {
  const std::string prompt =
      "\"The grass is green. One of the special magic numbers for old-dog is: 4711123. The sky is "
      "blue. "
      "What is the special magic number for old-dog mentioned in the provided text? The special "
      "magic "
      "number for old-dog mentioned in the provided text is\"";
  const Result plain = fastkv("run --method full --prompt " + prompt + " -n 12");
  EXPECT_EQ(plain.code, 0);
  EXPECT_NE(plain.out.find("4711123"), std::string::npos) << plain.out;
  for (const char* words :
       {"entered layers", "first token", "KV cache", "planned for the prompt"}) {
    EXPECT_NE(plain.out.find(words), std::string::npos) << words;
  }
  const Result machine =
      fastkv("run --json --method full --prompt " + prompt + " -n 12 2>/dev/null");
  const json answer = json::parse(machine.out);
  EXPECT_NE(answer["text"].get<std::string>().find("4711123"), std::string::npos);
  EXPECT_GT(answer["report"]["kv_bytes"].get<int>(), 0);
  const Result stopped =
      fastkv("run --json --method full --stop 1123 --prompt " + prompt + " -n 12 2>/dev/null");
  EXPECT_EQ(json::parse(stopped.out)["finish_reason"], "stop_text");
  EXPECT_EQ(json::parse(stopped.out)["text"].get<std::string>().find("1123"), std::string::npos);
}

TEST_F(Cli, ReadsPromptsFromFilesAndStandardInput) {
  const std::string path = file("prompt.txt", "Hello there, how are you today?");
  const json from_file =
      json::parse(fastkv("run --json -n 4 --prompt-file " + path + " 2>/dev/null").out);
  const json from_stdin =
      json::parse(fastkv("run --json -n 4 --prompt-file - < " + path + " 2>/dev/null").out);
  EXPECT_EQ(from_file["ids"], from_stdin["ids"]);
}

TEST_F(Cli, TalksOverTurnsWithOneCache) {
  const std::string turns = file("turns.txt",
                                 "The special magic number for old-dog is: 4711123.\nWhat is the "
                                 "special magic number for old-dog?\n");
  const Result r = fastkv("run --chat --method full -n 12 < " + turns);
  EXPECT_EQ(r.code, 0) << r.out;
  EXPECT_NE(r.out.find("decode"), std::string::npos) << r.out;
}

TEST_F(Cli, TokenizesBothWays) {
  const std::string rows = file("rows.jsonl",
                                "{\"text\": \"Hello world\"}\n\n{\"messages\": [{\"role\": "
                                "\"user\", \"content\": \"Hi\"}]}\n");
  const Result r = fastkv("tokenize --jsonl " + rows);
  ASSERT_EQ(r.code, 0) << r.out;
  const std::size_t line = r.out.find('\n');
  const json first = json::parse(r.out.substr(0, line));
  const json second = json::parse(r.out.substr(line + 1));
  EXPECT_NE(second["text"].get<std::string>().find("assistant"), std::string::npos);
  const Result back = fastkv("tokenize --decode < " + file("ids.json", first.dump()));
  EXPECT_NE(back.out.find("Hello world"), std::string::npos) << back.out;
  const json no_bos =
      json::parse(fastkv("tokenize --no-bos < " + file("t.txt", "Hello world")).out);
  EXPECT_EQ(no_bos["ids"].size() + 1, first["ids"].size());
}

TEST_F(Cli, BenchWritesTablesForMachines) {
  const std::string out = (directory_ / "bench.json").string();
  const std::string csv = (directory_ / "bench.csv").string();
  const Result r = fastkv(
      "bench --model " + fixture +
      " --context 40,80 --method full,fastkv --batch 1,2 --repeats 1 --warmup 0 -n 2 --json " +
      out + " --csv " + csv);
  ASSERT_EQ(r.code, 0) << r.out;
  const json result = json::parse(std::ifstream(out));
  EXPECT_EQ(result["rows"].size(), 8U);
  EXPECT_GT(result["gemm_flops"].get<double>(), 1e8);
  std::ifstream lines(csv);
  std::string line;
  int count = 0;
  while (std::getline(lines, line)) ++count;
  EXPECT_EQ(count, 9);
}

TEST_F(Cli, BenchShowsWhereAPrefillGoes) {
  const std::string out = (directory_ / "kernels.json").string();
  const std::string csv = (directory_ / "kernels.csv").string();
  const Result r = fastkv("bench kernels --model " + fixture +
                          " --context 40 --method full --json " + out + " --csv " + csv);
  ASSERT_EQ(r.code, 0) << r.out;
  int products = 0;
  const json result = json::parse(std::ifstream(out));
  EXPECT_EQ(result["repeats"], 1);
  const json& rows = result["rows"];
  for (const json& row : rows) {
    EXPECT_GT(row["seconds"].get<double>(), 0) << row;
    EXPECT_GT(row["bytes"].get<double>(), 0) << row;
    EXPECT_GT(row["of_ceiling"].get<double>(), 0) << row;
    int outputs = 0, depth = 0;
    const auto name = row["operation"].get<std::string>();
    const std::size_t shape = name.find_first_of("0123456789");
    if (shape == std::string::npos) continue;
    ASSERT_EQ(std::sscanf(name.c_str() + shape, "%d x %d", &outputs, &depth), 2) << name;
    ++products;
    // All rows of the prompt, but one alone through the head.
    const double rows_of_x = row["calls"] == 1 ? 1 : 40;
    EXPECT_EQ(row["flops"].get<double>(),
              2.0 * rows_of_x * outputs * depth * row["calls"].get<double>())
        << row;
  }
  EXPECT_EQ(products, 5);
  std::ifstream lines(csv);
  std::string line;
  std::size_t count = 0;
  while (std::getline(lines, line)) ++count;
  EXPECT_EQ(count, rows.size() + 1);
}

TEST_F(Cli, RunsRandomWeights) {
  const Result r =
      fastkv("run --json --random-weights " + fixture +
             "/config.json --seed 3 -n 3 --ignore-eos --prompt-ids " + ids() + " 2>/dev/null");
  ASSERT_EQ(r.code, 0) << r.out;
  EXPECT_EQ(json::parse(r.out)["ids"].size(), 3U);
}

TEST_F(Cli, RefusesBadCommandLines) {
  expect_refused("walk", "no command 'walk'");
  expect_refused("run --prompt hi --tsplayer 3", "did you mean --tsp-layer?");
  expect_refused("run --prompt", "needs a value");
  expect_refused("run --prompt a --prompt b", "given twice");
  expect_refused("run", "give one prompt");
  expect_refused("run --prompt a --prompt-ids b", "give one prompt");
  expect_refused("run --prompt ''", "needs a value");
  expect_refused("run --model '' --prompt a", "needs a value");
  expect_refused("run --prompt a --system hi", "needs --chat");
  expect_refused("run --prompt a --min-tokens 9 -n 3", "above -n 3");
  expect_refused("run --prompt a -n -1", "-n must be at least 0");
  expect_refused("run hello", "takes options only");
  expect_refused("run --prompt a --method quest", "no method 'quest'");
  expect_refused("run --prompt a --method full --retain 0.1", "no option --retain");
  expect_refused("run --prompt a --retain 2", "above 0 and at most 1");
  expect_refused("run --prompt a --tsp-layer 99", "outside the model");
  expect_refused("run --prompt a --method gemfilter --filter-layer 99", "outside the model");
  expect_refused("run --prompt a --mode constant --capacity 4", "above the window");
  expect_refused("run --prompt a --mode constant --retain 0.5", "no meaning with --mode constant");
  expect_refused("run --prompt a --temperature hot", "needs a number");
  expect_refused("run --prompt a --top-k 5", "give a --temperature above 0");
  expect_refused("methods --json --markdown", "leave one out");
  expect_refused("run --prompt a --random-weights llama-9", "llama-3.1-8b");
  expect_refused("run --prompt a --model x --random-weights llama-3.2-1b", "either a checkpoint");
  expect_refused("run --prompt a --device cuda", "CUDA");
  expect_refused("bench swim", "prefill, decode");
  expect_refused("bench --context 0", "above 0");
  expect_refused("bench --warmup 9223372036854775807", "at most");
  expect_refused("bench --context 40000", "needs 40035 positions");
  expect_refused("bench --method full --retain 0.1", "none of the methods full");
  expect_refused("demo --tokens 40000", "above the model's 32768 positions");
  expect_refused("eval needle --merge a --context 5", "no meaning with --merge");
  expect_refused("score ruler --scorer v1 file", "an option of infinitebench");
  expect_refused("calibrate --context 40000", "above the model's 32768 positions");
  expect_refused("calibrate --prompt-file " + file("short.txt", "A few words."), "left out");
  expect_refused("tokenize --decode <" + file("half.json", "[1.5]"), "list of token ids");
  expect_refused("tokenize --decode <" + file("far.json", "[4294967297]"), "list of token ids");
  expect_refused("bench kernels --plot " + (directory_ / "k.svg").string(), "has no --plot");
  expect_refused("bench kernels --repeats 3", "has no --repeats");
  expect_refused("bench --json a --csv a", "both name a");
  expect_refused("bench prefill -n 3", "has no -n");
  expect_refused("bench decode --repeats 3", "has no --repeats");
}

TEST_F(Cli, RefusesBadFiles) {
  expect_refused("run --prompt a --model /nowhere", "/nowhere");
  expect_refused("run --prompt-file /nowhere/at/all", "cannot be read");
  expect_refused("run --prompt-ids " + file("bad.json", "[1, 2"), "list of token ids");
  expect_refused("run --prompt-ids " + file("bad.json", "[1, \"two\"]"), "list of token ids");
  expect_refused("run --model " + fixture + " --prompt-ids " + file("far.json", "[1, 99999]"),
                 "outside the vocabulary");
  expect_refused("run --model " + fixture + " --prompt hi", "no tokenizer");
  expect_refused("run --prompt-file " + file("latin1.txt", "caf\xe9 au lait"), "UTF-8");
  expect_refused("run --prompt hi --trace /nowhere/trace.json", "cannot be written");
  expect_refused("bench --json /nowhere/bench.json", "cannot be written");
  expect_refused("tokenize --jsonl " + file("rows.jsonl", "{\"text\": 3}\n"), "line 1");
  const Result second =
      fastkv("tokenize --jsonl " + file("rows.jsonl", "{\"text\": \"a\"}\n{\"x\": 1}\n"));
  EXPECT_EQ(second.code, 2);
  EXPECT_NE(second.out.find("line 2"), std::string::npos) << second.out;
  std::string many = "[1";
  for (int i = 0; i < 9000; ++i) many += ",1";
  expect_refused("run --model " + fixture + " --prompt-ids " + file("long.json", many + "]"),
                 "--max-positions");
}

TEST_F(Cli, NamesThatTheFileSystemRefuses) {
  const std::string longer(300, 'x');
  expect_refused("run --prompt a --model " + longer, longer);
  EXPECT_LT(fastkv("run --prompt a --model " + std::string(5000, 'x')).out.size(), 500U);
  expect_refused("bench --random-weights " + longer, longer);
  expect_refused("bench --context 8 --json " + std::string(250, 'x'), "cannot be written");
}

TEST_F(Cli, RefusesModelsItDoesNotKnow) {
  const auto with = [&](const json& changes) {
    return "run --model " + changed_model(changes) + " --prompt-ids " + ids();
  };
  expect_refused(with({{"architectures", {"GPT2LMHeadModel"}}}), "GPT2LMHeadModel");
  expect_refused(with({{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}}}}), "yarn");
  expect_refused(with({{"num_key_value_heads", 3}}), "num_key_value_heads");
  expect_refused(with({{"hidden_size", 128}}), "shape");
  EXPECT_EQ(fastkv(with(json::object())).code, 0);
}

TEST_F(Cli, RefusesWhatDoesNotFitIntoMemory) {
  // Queries of 128 KiB a token: a million tokens need hundreds of GiB, the weights almost nothing.
  json config = json::parse(std::ifstream(fixture + "/config.json"));
  config.update(
      {{"num_attention_heads", 512}, {"num_key_value_heads", 8}, {"num_hidden_layers", 1}});
  std::string many = "[1";
  for (int i = 0; i < 1'000'000; ++i) many += ",1";
  expect_refused("run --random-weights " + file("wide.json", config.dump()) +
                     " --max-positions 2000000 --prompt-ids " + file("long.json", many + "]"),
                 "GiB are free");
}

TEST_F(Cli, MaxPositionsCanBeOverridden) {
  const std::string model = changed_model({{"max_position_embeddings", 8}});
  expect_refused("run --model " + model + " --prompt-ids " + ids(), "--max-positions 12");
  EXPECT_EQ(fastkv("run --model " + model + " --max-positions 64 -n 2 --prompt-ids " + ids()).code,
            0);
}

}  // namespace
}  // namespace fastkv
