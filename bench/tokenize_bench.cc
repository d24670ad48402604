// How fast a tokenizer encodes: tokenize_bench FILE_OR_DIR TEXT [RUNS]. One core; processor
// time, the best of RUNS.

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <filesystem>

#include "core/json.h"
#include "text/tokenizer.h"

namespace {

double seconds_of(auto&& work) {
  // Processor time, so that a busy machine does not change the figures much.
  const std::clock_t begin = std::clock();
  work();
  return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
}

int run(int argc, char** argv) {
  if (argc < 3) {
    fmt::print(stderr, "usage: tokenize_bench tokenizer.json|tokenizer.model|DIR TEXT [RUNS]\n");
    return 2;
  }
  const std::filesystem::path source = argv[1];
  const std::string text = fastkv::read_text_file(argv[2]);
  const int runs = argc > 3 ? std::max(1, std::atoi(argv[3])) : 5;

  std::optional<fastkv::Tokenizer> tokenizer;
  const double load = seconds_of([&] {
    tokenizer = std::filesystem::is_directory(source) ? fastkv::Tokenizer::load(source)
                                                      : fastkv::Tokenizer::from_file(source);
  });
  std::vector<std::int32_t> ids;
  double encode = 1e9, decode = 1e9;
  for (int i = 0; i < runs; ++i) {
    encode = std::min(encode,
                      seconds_of([&] { ids = tokenizer->encode(text, fastkv::Special::parse); }));
    decode = std::min(decode, seconds_of([&] { tokenizer->decode(ids, false); }));
  }
  const double megabytes = static_cast<double>(text.size()) / 1e6;
  fmt::print("{}: load {:.2f} s, {:.1f} MB to {} tokens, encode {:.1f} MB/s, decode {:.1f} MB/s\n",
             source.string(), load, megabytes, ids.size(), megabytes / encode, megabytes / decode);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    fmt::print(stderr, "tokenize_bench: {}\n", e.what());
    return 2;
  }
}
