#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

// Runs the program as a user does.

namespace fastkv::test {

struct Result {
  int code = -1;
  std::string out;  // standard output and standard error
};

/// Runs the program through the shell; `arguments` may redirect.
inline Result fastkv(const std::string& arguments) {
  const std::string command = std::string(FASTKV_CLI) + " " + arguments + " 2>&1";
  FILE* pipe = popen(command.c_str(), "r");
  Result result;
  std::array<char, 4096> buffer;
  while (const std::size_t n = fread(buffer.data(), 1, buffer.size(), pipe))
    result.out.append(buffer.data(), n);
  const int status = pclose(pipe);
  result.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

/// A test with a directory of its own for files.
class ProgramTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ =
        std::filesystem::temp_directory_path() / ("fastkv_cli_" + std::to_string(getpid()));
    std::filesystem::create_directories(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::string file(const std::string& name, const std::string& content) {
    std::ofstream(directory_ / name, std::ios::binary) << content;
    return (directory_ / name).string();
  }
  static void expect_refused(const std::string& arguments, const std::string& words) {
    const Result r = fastkv(arguments);
    EXPECT_EQ(r.code, 2) << arguments << "\n" << r.out;
    EXPECT_TRUE(r.out.starts_with("fastkv: ")) << r.out;
    EXPECT_NE(r.out.find(words), std::string::npos) << arguments << "\n" << r.out;
    EXPECT_EQ(std::count(r.out.begin(), r.out.end(), '\n'), 1) << "one sentence: " << r.out;
  }

  std::filesystem::path directory_;
};

}  // namespace fastkv::test
