#include "model/safetensors.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"
#include "support/safetensors_writer.h"
#include "support/test_data.h"

namespace fastkv {
namespace {

using test::expect_error;
using test::header_length;
using test::safetensors_file;
using test::TensorData;

StoredTensors parse(const std::string& file) {
  return parse_safetensors(std::as_bytes(std::span(file)), "x.safetensors");
}

void expect_refused(const std::string& file, std::initializer_list<std::string_view> parts) {
  expect_error([&] { parse(file); }, parts);
}

/// A header with one tensor "a".
std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"a":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets +
         "}}";
}

TEST(Safetensors, ReadsWhatWasWritten) {
  const auto tensors = parse(safetensors_file({
      {"a", {"BF16", {2, 3}, std::string(12, 'x')}},
      {"b", {"F32", {}, std::string(4, 'y')}},
      {"c", {"I64", {1}, std::string(8, 'z')}},
      {"d", {"F32", {0, 7}, ""}},
  }));
  ASSERT_EQ(tensors.size(), 4u);
  EXPECT_EQ(tensors.at("a").dims, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(tensors.at("a").type(), DType::bf16);
  EXPECT_EQ(tensors.at("a").bytes, 12u);
  EXPECT_EQ(tensors.at("b").offset, tensors.at("a").offset + 12);
  EXPECT_EQ(tensors.at("c").type(), std::nullopt) << "listed, though weights cannot have this type";
  EXPECT_EQ(tensors.at("d").bytes, 0u);
}

TEST(Safetensors, AllowsGapsAndUnknownTypes) {
  const auto tensors =
      parse(safetensors_file(R"({"a":{"dtype":"F16","shape":[1],"data_offsets":[6,8]},)"
                             R"("b":{"dtype":"Q9","shape":[3],"data_offsets":[0,1]}})",
                             std::string(10, 'x')));
  EXPECT_EQ(tensors.at("a").type(), DType::f16);
  EXPECT_EQ(tensors.at("b").type(), std::nullopt);
}

TEST(Safetensors, RefusesTruncatedFiles) {
  expect_refused("", {"x.safetensors", "8 bytes", "0 in all"});
  expect_refused("1234567", {"7 in all"});
  expect_refused(header_length(100) + "{}", {"claims 100 bytes", "only 2 follow"});
  const std::string whole = safetensors_file({{"a", {"F32", {4}, std::string(16, 'x')}}});
  EXPECT_NO_THROW(parse(whole));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    expect_refused(whole.substr(0, size), {"x.safetensors", "truncated"});
  }
}

TEST(Safetensors, RefusesAbsurdHeaders) {
  expect_refused(header_length(~std::uint64_t{0}) + "{}", {"18446744073709551615", "allows"});
  expect_refused(header_length(100'000'001) + "{}", {"100000001", "100000000"});
  expect_refused(safetensors_file("{\"a\":"), {"x.safetensors", "not valid JSON"});
  expect_refused(safetensors_file(""), {"not valid JSON"});
  expect_refused(safetensors_file("[1,2]"), {"JSON object"});
  expect_refused(safetensors_file("{\"a\":3}"), {"tensor \"a\"", "object"});
  expect_refused(safetensors_file("{\"\xFF\":3}"), {"not valid JSON"});
  expect_refused(safetensors_file(std::string(200, '[')), {"nested"});
}

TEST(Safetensors, RefusesOverlaps) {
  const std::string overlapping = R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                                  R"("b":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}})";
  expect_refused(safetensors_file(overlapping, std::string(8, 'x')), {"\"a\"", "\"b\"", "overlap"});
  // One inside the other, which neighbours in the order of the beginnings must still show.
  const std::string nested = R"({"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]},)"
                             R"("b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})";
  expect_refused(safetensors_file(nested, std::string(9, 'x')), {"overlap"});
}

TEST(Safetensors, RefusesTheSameNameTwice) {
  expect_refused(safetensors_file(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                  R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                                  "xx"),
                 {"\"a\" twice"});
  expect_refused(safetensors_file(
                     R"({"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}})", "x"),
                 {"\"dtype\" twice"});
}

TEST(Safetensors, ChecksSizesAgainstShapes) {
  const std::string data(64, 'x');
  EXPECT_NO_THROW(parse(safetensors_file(entry("F32", "[2,2]", "[0,16]"), data)));
  expect_refused(safetensors_file(entry("F32", "[2,2]", "[0,15]"), data),
                 {"tensor \"a\"", "[2, 2] of F32", "15 bytes"});
  expect_refused(safetensors_file(entry("F32", "[2,2]", "[0,20]"), data), {"20 bytes"});
  // 2^62 * 4 * 4 bytes are 2^66, which is 0 in 64 bits.
  expect_refused(safetensors_file(entry("F32", "[4611686018427387904,4]", "[0,0]"), data),
                 {"does not take"});
  expect_refused(safetensors_file(entry("F4", "[3]", "[0,1]"), data), {"does not take"});
  expect_refused(safetensors_file(entry("F32", "[-1]", "[0,4]"), data), {"-1", "negative"});
  expect_refused(safetensors_file(entry("F32", "[1.5]", "[0,4]"), data), {"shape", "integer"});
  expect_refused(safetensors_file(entry("F32", "[18446744073709551615]", "[0,4]"), data),
                 {"shape", "64 bits"});
  expect_refused(
      safetensors_file(entry("F32", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[0,4]"), data),
      {"16 dimensions"});
}

TEST(Safetensors, ChecksOffsets) {
  const std::string data(64, 'x');
  expect_refused(safetensors_file(entry("U8", "[65]", "[0,65]"), data),
                 {"tensor \"a\"", "byte 65", "64 bytes of data"});
  expect_refused(
      safetensors_file(entry("U8", "[1]", "[9223372036854775806,9223372036854775807]"), data),
      {"9223372036854775807"});
  expect_refused(safetensors_file(entry("U8", "[1]", "[2,1]"), data), {"[2, 1]", "not a range"});
  expect_refused(safetensors_file(entry("U8", "[1]", "[-1,0]"), data), {"not a range"});
  expect_refused(safetensors_file(entry("U8", "[1]", "[0]"), data), {"two numbers"});
  expect_refused(safetensors_file(R"({"a":{"dtype":"U8","shape":[1]}})", data),
                 {"data_offsets", "missing"});
}

const TensorData one_byte = {"U8", {1}, "x"};

TEST(SafetensorsDirectory, NamesWhatIsMissing) {
  const test::TemporaryDir dir;
  expect_error([&] { SafetensorsDirectory{dir.path()}; },
               {dir.path().string(), "model.safetensors", "model.safetensors.index.json"});
}

TEST(SafetensorsDirectory, ReadsSeveralFiles) {
  const test::TemporaryDir dir;
  dir.write("one.safetensors", safetensors_file({{"a", one_byte}, {"unlisted", one_byte}}));
  dir.write("two.safetensors", safetensors_file({{"b", {"U8", {1}, "y"}}}));
  dir.write("model.safetensors.index.json",
            R"({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})");
  const SafetensorsDirectory files(dir.path());
  EXPECT_EQ(files.entries().size(), 2u);
  EXPECT_EQ(files.files().size(), 2u);
  ASSERT_NE(files.find("b"), nullptr);
  EXPECT_EQ(*files.find("b")->data(), std::byte{'y'});
  EXPECT_EQ(files.find("unlisted"), nullptr);
}

TEST(SafetensorsDirectory, RefusesABadIndex) {
  const test::TemporaryDir dir;
  dir.write("one.safetensors", safetensors_file({{"a", one_byte}}));
  const auto refused = [&](const std::string& index,
                           std::initializer_list<std::string_view> parts) {
    dir.write("model.safetensors.index.json", index);
    expect_error([&] { SafetensorsDirectory{dir.path()}; }, parts);
  };
  refused(R"({"weight_map": {"b": "one.safetensors"}})",
          {"tensor \"b\"", "one.safetensors", "does not have it"});
  refused(R"({"weight_map": {"a": "gone.safetensors"}})", {"gone.safetensors", "does not exist"});
  refused(R"({"weight_map": {"a": 3}})", {"\"a\"", "string"});
  refused(R"({"weight_map": [1]})", {"weight_map", "object"});
  refused(R"({})", {"weight_map", "missing"});
  refused(R"({"weight_map": )", {"index.json", "not valid JSON"});
}

TEST(SafetensorsDirectory, StaysInsideItsDirectory) {
  const test::TemporaryDir outer;
  outer.write("secret.safetensors", safetensors_file({{"a", one_byte}}));
  const auto inner = outer.path() / "model";
  std::filesystem::create_directory(inner);
  for (const std::string name : {"../secret.safetensors", "..", ".", "", "sub/x.safetensors",
                                 "..\\\\secret.safetensors", "/etc/passwd", "x\\u0000y"}) {
    outer.write("model/model.safetensors.index.json",
                R"({"weight_map": {"a": ")" + name + R"("}})");
    expect_error([&] { SafetensorsDirectory{inner}; }, {"tensor \"a\"", "same directory"});
  }
}

TEST(FileMap, SaysWhatIsWrong) {
  const test::TemporaryDir dir;
  expect_error([&] { FileMap{dir.path() / "none"}; }, {"none", "cannot open", "No such file"});
  expect_error([&] { FileMap{dir.path()}; }, {dir.path().string(), "regular file"});
  dir.write("empty", "");
  EXPECT_EQ(FileMap(dir.path() / "empty").size(), 0u);
}

TEST(FileMap, MapsAndMoves) {
  const test::TemporaryDir dir;
  dir.write("file", "content");
  FileMap first(dir.path() / "file");
  first.advise(FileMap::Access::sequential);
  first.advise(FileMap::Access::will_need);
  FileMap second(std::move(first));
  EXPECT_EQ(second.size(), 7u);
  EXPECT_EQ(second.bytes()[6], std::byte{'t'});
  dir.write("other", "x");
  second = FileMap(dir.path() / "other");
  EXPECT_EQ(second.size(), 1u);
  EXPECT_EQ(second.bytes()[0], std::byte{'x'});
}

}  // namespace
}  // namespace fastkv
