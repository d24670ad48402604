#include "tasks/data_file.h"

#include <zlib.h>

#include "support/expect_error.h"
#include "task_test.h"
#include "tasks/truncate.h"

namespace fastkv {
namespace {

Sample plain_sample(const nlohmann::json& row, std::int64_t index) {
  Sample sample;
  sample.id = row.contains("id") ? row["id"].get<std::string>() : std::to_string(index);
  if (!row.contains("text")) throw Error("no text");
  sample.context = row["text"].get<std::string>();
  return sample;
}

test::Collected read(const std::filesystem::path& path, const SampleRequest& request = {}) {
  test::Collected all;
  samples_of_rows(
      path, request, plain_sample,
      [&](Sample sample) {
        all.samples.push_back(std::move(sample));
        return true;
      },
      all.issues);
  return all;
}

void write_gzip(const std::filesystem::path& path, const std::string& text) {
  gzFile file = gzopen(path.c_str(), "wb");
  ASSERT_EQ(gzwrite(file, text.data(), static_cast<unsigned>(text.size())),
            static_cast<int>(text.size()));
  gzclose(file);
}

TEST(DataFile, BadRowsAreReportedWithTheirLine) {
  const test::TemporaryDir dir;
  dir.write("a.jsonl",
            "{\"id\": \"x\", \"text\": \"one\"}\r\n"
            "\n"
            "{\"id\": \"y\"}\n"
            "{broken\n"
            "[1]\n"
            "{\"id\": \"x\", \"text\": \"two\"}");  // no line break at the end
  const auto all = read(dir.path() / "a.jsonl");
  ASSERT_EQ(all.samples.size(), 2U);
  EXPECT_EQ(all.samples[0].context, "one");
  EXPECT_EQ(all.samples[1].context, "two");
  EXPECT_EQ(all.samples[1].id, "x#6") << "ids are unique";
  ASSERT_EQ(all.issues.size(), 3U);
  EXPECT_EQ(all.issues[0].line, 3);
  EXPECT_EQ(all.issues[1].line, 4);
  EXPECT_EQ(all.issues[2].line, 5);
  EXPECT_EQ(to_string(all.issues[0]), (dir.path() / "a.jsonl").string() + ":3: no text");
}

TEST(DataFile, ALineMayEndWhereReadingStops) {
  const test::TemporaryDir dir;
  const std::string frame = R"({"text": ""})";
  for (const std::size_t size : {(1U << 20) - 1, 1U << 20, (1U << 20) + 1}) {
    const std::string row = R"({"text": ")" + std::string(size - frame.size(), 'x') + R"("})";
    ASSERT_EQ(row.size(), size);
    dir.write("edge.jsonl", row + "\n" + frame + "\n");
    EXPECT_EQ(read(dir.path() / "edge.jsonl").samples.size(), 2U) << size;
  }
}

TEST(DataFile, LongGzipLinesLimitAndSkip) {
  const test::TemporaryDir dir;
  std::string text;
  const std::string long_text(3'000'000, 'z');  // longer than what is read at once
  for (int i = 0; i < 4; ++i) {
    text += "{\"id\": \"" + std::to_string(i) + "\", \"text\": \"" + long_text + "\"}\n";
  }
  write_gzip(dir.path() / "b.jsonl.gz", text);
  const auto path = find_packed_file(dir.path(), "b.jsonl");
  ASSERT_TRUE(path);
  EXPECT_EQ(read(*path).samples.size(), 4U);
  EXPECT_EQ(read(*path).samples[3].context, long_text);
  SampleRequest request;
  request.limit = 3;
  request.skip = [](const std::string& id) { return id == "1"; };
  const auto some = read(*path, request);
  ASSERT_EQ(some.samples.size(), 2U) << "what is skipped counts";
  EXPECT_EQ(some.samples[1].id, "2");
}

TEST(DataFile, BrokenArchivesAndMissingFilesAreErrors) {
  const test::TemporaryDir dir;
  write_gzip(dir.path() / "c.gz", std::string(100'000, 'q') + "\n");
  std::filesystem::resize_file(dir.path() / "c.gz",
                               std::filesystem::file_size(dir.path() / "c.gz") / 2);
  EXPECT_THROW(read_packed_file(dir.path() / "c.gz"), Error);
  EXPECT_THROW(read_packed_file(dir.path() / "none"), Error);
  dir.write("d.xz", "no archive");
  EXPECT_THROW(read_packed_file(dir.path() / "d.xz"), Error);
  EXPECT_THROW(need_packed_file(dir.path(), "e.jsonl", "write it."), Error);
}

TEST(DataFile, UnpacksXz) {
  FASTKV_NEEDS_DATA("ruler/PaulGrahamEssays.json.xz");
  std::string text;
  try {
    text = read_packed_file(test::data_dir() / "ruler/PaulGrahamEssays.json.xz");
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();  // a build without liblzma
  }
  EXPECT_NO_THROW({ EXPECT_TRUE(nlohmann::json::parse(text).contains("text")); });
}

TEST(Truncate, KeepsBothEnds) {
  const Codec& codec = test::bundled_codec();
  std::string text;
  for (int i = 0; i < 300; ++i) text += "word" + std::to_string(i) + " ";
  const auto count = codec.count(text);
  EXPECT_FALSE(truncate_middle(text, count, codec).cut);
  const Ends ends = truncate_middle(text, 101, codec);
  ASSERT_TRUE(ends.cut);
  EXPECT_EQ(codec.count(ends.head), 50) << "half of an odd limit is rounded down";
  EXPECT_TRUE(text.starts_with(ends.head));
  EXPECT_TRUE(text.ends_with(ends.tail));

  Sample sample;
  // A question that names a special token stays a question, though the token has no text.
  for (const char* question : {"\nWhat ends with <|eot_id|> here?", "\nWhich words are missing?"}) {
    sample.context = text;
    sample.question = question;
    truncate_middle(sample, 200, codec);
    EXPECT_EQ(sample.question, question);
    EXPECT_TRUE(sample.context.starts_with("word0 word1 "));
    EXPECT_TRUE(sample.context.ends_with("word299 "));
    EXPECT_NEAR(static_cast<double>(codec.count(sample.context + sample.question)), 200.0, 3.0);
  }

  truncate_middle(sample, 8, codec);
  EXPECT_TRUE(sample.context.starts_with("word"));
  EXPECT_TRUE(sample.question.ends_with("?"));
}

}  // namespace
}  // namespace fastkv
