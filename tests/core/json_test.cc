#include "core/json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "fastkv/error.h"

namespace fastkv {
namespace {

template <class Work>
std::string sentence_of(const Work& work) {
  try {
    work();
  } catch (const Error& e) {
    return e.what();
  }
  return "no Error";
}

TEST(Json, BrokenTextIsNamed) {
  EXPECT_TRUE(sentence_of([] {
                parse_json("{\"a\": ", "x.json");
              }).starts_with("x.json: this is not valid JSON ("));
  EXPECT_EQ(sentence_of([] { parse_json("[1e999]", "x.json"); }).find("no Error"),
            std::string::npos);
  EXPECT_NE(sentence_of([] { parse_json("\"\xff\"", "x.json"); }).find("not valid JSON"),
            std::string::npos);
  EXPECT_EQ(sentence_of([] { parse_json(std::string(100000, '['), "x.json"); }),
            "x.json: JSON is nested deeper than 128 levels; no such file is expected here.");
  EXPECT_NO_THROW(parse_json("\"" + std::string(1000, '[') + "\"", "x.json"));
}

TEST(Json, FieldsAreChecked) {
  const Json object = parse_json(
      R"({"i": 3, "d": 2.5, "s": "t", "b": true, "n": null, "big": 18446744073709551615})", "c");
  EXPECT_EQ(get_int(object, "i", "c"), 3);
  EXPECT_EQ(get_number(object, "i", "c"), 3.0);
  EXPECT_EQ(get_number(object, "d", "c"), 2.5);
  EXPECT_EQ(get_string(object, "s", "c"), "t");
  EXPECT_TRUE(get_bool(object, "b", "c"));
  EXPECT_EQ(find_int(object, "n", "c"), std::nullopt);
  EXPECT_EQ(find_string(object, "absent", "c"), std::nullopt);
  EXPECT_EQ(sentence_of([&] { get_int(object, "absent", "c"); }),
            "c: field \"absent\" is missing; it must be an integer.");
  EXPECT_EQ(sentence_of([&] { get_int(object, "d", "c"); }),
            "c: field \"d\" must be an integer, but it is 2.5.");
  EXPECT_EQ(sentence_of([&] { find_bool(object, "s", "c"); }),
            "c: field \"s\" must be true or false, but it is \"t\".");
  EXPECT_EQ(sentence_of([&] { get_int(object, "big", "c"); }),
            "c: field \"big\" must be an integer of 64 bits, but it is 18446744073709551615.");
  EXPECT_EQ(sentence_of([&] { get_array(object, "s", "c"); }),
            "c: field \"s\" must be an array, but it is \"t\".");
  EXPECT_EQ(sentence_of([] { get_int(parse_json("[1]", "c"), "i", "c"); }),
            "c: a JSON object with a field \"i\" was expected, but this is of type array.");
}

TEST(Json, MissingFilesAreNamed) {
  EXPECT_EQ(
      sentence_of([] { parse_json_file("/nonexistent/config.json"); }),
      "/nonexistent/config.json: cannot open this file; check that it exists and is readable.");
  EXPECT_EQ(sentence_of([] { read_text_file("/"); }),
            "/: this is a directory, a file was expected.");
}

}  // namespace
}  // namespace fastkv
