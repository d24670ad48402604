#include "fastkv/write_file.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"

namespace fastkv {
namespace {

namespace fs = std::filesystem;

class WriteFile : public testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  fs::path folder_ =
      fs::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(WriteFile, IsWholeWhoeverElseWrites) {
  const fs::path path = folder_ / "shared.bin";
  std::vector<std::thread> writers;
  for (char letter = 'a'; letter < 'e'; ++letter) {
    writers.emplace_back([&, letter] {
      for (int i = 0; i < 50; ++i) write_file(path, std::string(100'000, letter));
    });
  }
  for (std::thread& writer : writers) writer.join();
  std::ifstream in(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  EXPECT_EQ(bytes, std::string(100'000, bytes.at(0)));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1) << "nothing else is left";
}

TEST_F(WriteFile, LeavesLinksAndDevicesInPlace) {
  write_file(folder_ / "file", "old");
  fs::create_symlink("file", folder_ / "link");
  fs::create_symlink("/dev/null", folder_ / "null");
  for (const char* name : {"link", "null"}) {
    EXPECT_TRUE(can_write_file(folder_ / name));
    write_file(folder_ / name, "new");
    EXPECT_TRUE(fs::is_symlink(folder_ / name));
  }
  EXPECT_EQ(fs::file_size(folder_ / "file"), 3U);
  EXPECT_EQ(std::ifstream(folder_ / "file").get(), 'n');
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 3);
}

TEST_F(WriteFile, SaysBeforehandWhatCannotBeWritten) {
  EXPECT_TRUE(can_write_file(folder_ / "file"));
  EXPECT_FALSE(can_write_file(folder_));
  EXPECT_FALSE(can_write_file(folder_ / "none" / "file"));
  EXPECT_FALSE(can_write_file(folder_ / std::string(250, 'x'))) << "no room for the other name";
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 0);
}

TEST_F(WriteFile, RefusesWhatCannotBeWritten) {
  EXPECT_THROW(write_file(folder_ / "none" / "file", "text"), Error);
  fs::create_directories(folder_ / "folder" / "inside");
  EXPECT_THROW(write_file(folder_ / "folder", "text"), Error);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);
}

}  // namespace
}  // namespace fastkv
