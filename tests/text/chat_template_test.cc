#include "text/chat_template.h"

#include <gtest/gtest.h>

#include "support/test_data.h"
#include "text/expect_error.h"
#include "text/tokenizer.h"

namespace fastkv {
namespace {

using test::expect_error;

std::string render(std::string_view source, const std::vector<ChatMessage>& messages = {},
                   std::int64_t work = 0) {
  return ChatTemplate(source, "<s>", "</s>").render(messages, /*add_generation_prompt=*/true, work);
}

void expect_chat_golden(const std::string& name, int rows_expected, int refusals_expected) {
  const auto dir = test::data_dir() / "tokenizers" / name;
  const ChatTemplate chat = ChatTemplate::load(dir);
  const Tokenizer tokenizer =
      Tokenizer::from_json(test::read_file(dir / "tokenizer.json.gz"), name);
  int rows = 0, refusals = 0;
  for (const auto& row : test::read_jsonl(dir / "chat_golden.jsonl")) {
    ++rows;
    std::vector<ChatMessage> messages;
    for (const auto& m : row.at("messages")) messages.push_back({m.at("role"), m.at("content")});
    const bool prompt = row.at("add_generation_prompt");
    if (row.contains("error")) {
      ++refusals;
      const std::string reason = row.at("error");
      expect_error([&] { chat.render(messages, prompt); }, reason.substr(reason.find(": ") + 2));
      continue;
    }
    const std::string text = chat.render(messages, prompt);
    EXPECT_EQ(text, row.at("text").get<std::string>());
    EXPECT_EQ(tokenizer.encode_prompt(text, /*bos=*/true),
              row.at("ids").get<std::vector<std::int32_t>>());
  }
  EXPECT_EQ(rows, rows_expected);
  EXPECT_EQ(refusals, refusals_expected);
}

TEST(ChatTemplateGolden, Llama3) {
  FASTKV_NEEDS_DATA("tokenizers/llama3/chat_golden.jsonl");
  expect_chat_golden("llama3", 70, 0);
}

TEST(ChatTemplateGolden, MistralNemo) {
  FASTKV_NEEDS_DATA("tokenizers/mistral-nemo/chat_golden.jsonl");
  expect_chat_golden("mistral-nemo", 70, 8);
}

TEST(ChatTemplate, LiteralsAndOperators) {
  EXPECT_EQ(
      render("{{ 1 + 2 * 3 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 10 }}"),
      "7 3 -4 2 3.5 1024");
  EXPECT_EQ(render("{{ 'a' ~ 1 ~ true ~ none }}"), "a1TrueNone");
  EXPECT_EQ(render("{{ 'a' 'b' + \"c\\n\\u00e9\" }}"), "abc\n\u00e9");
  EXPECT_EQ(render("{{ [1, 'x', [2.0, none]] }} {{ {'k': 'it\\'s'} }}"),
            "[1, 'x', [2.0, None]] {'k': \"it's\"}");
  EXPECT_EQ(render("{{ 1 < 2 <= 2 and not (3 == 4) or x }}"), "True");
  EXPECT_EQ(render("{{ 'b' in 'abc' }} {{ 2 not in [1, 2] }} {{ 'k' in {'k': 1} }}"),
            "True False True");
  EXPECT_EQ(render("{{ 'yes' if 1 else 'no' }}{{ 'gone' if 0 }}"), "yes");
  EXPECT_EQ(render("{{ 'x' * 3 }}{{ [1] + [2] }}"), "xxx[1, 2]");
}

TEST(ChatTemplate, IndexesAndSlices) {
  EXPECT_EQ(render("{{ 'h\u00e9llo'[1] }}{{ 'h\u00e9llo'[-1] }}{{ 'h\u00e9llo'[1:3] }}"),
            "\u00e9o\u00e9l");
  EXPECT_EQ(render("{{ [1,2,3][1:] }}{{ [1,2,3][:-1] }}{{ [1,2,3][::-1] }}{{ [1,2,3][9:] }}"),
            "[2, 3][1, 2][3, 2, 1][]");
  EXPECT_EQ(render("{{ {'a': {'b': 5}}.a['b'] }}{{ [][0] }}{{ nothing }}"), "5");
  EXPECT_EQ(render("{{ messages[0].role }}: {{ messages[-1]['content'] }}",
                   {{"user", "one"}, {"assistant", "two"}}),
            "user: two");
}

TEST(ChatTemplate, FiltersAndMethods) {
  EXPECT_EQ(
      render("{{ ' \u2003x y\u3000 ' | trim }}|{{ 'xxaxx'.strip('x') }}|{{ ' a '.rstrip() }}"),
      "x y|a| a");
  EXPECT_EQ(render("{{ 'h\u00e9' | length }}{{ [1,2] | length }}{{ missing | length }}"), "220");
  EXPECT_EQ(render("{{ {'a': [1, 'q\"\\n\u00e9'], 'b': true} | tojson }}"),
            "{\"a\": [1, \"q\\\"\\n\u00e9\"], \"b\": true}");
  EXPECT_EQ(render("{{ [1, {'a': 2}] | tojson(indent=2) }}"), "[\n  1,\n  {\n    \"a\": 2\n  }\n]");
  EXPECT_EQ(render("{{ x | default('d') }}{{ '' | default('e', true) }}{{ '' | default('f') }}"),
            "de");
  EXPECT_EQ(render("{{ 'aBc' | upper }}{{ 'ABC'.lower() }}{{ 'heLLo wOrld' | title }}"),
            "ABCabcHello World");
  EXPECT_EQ(render("{{ ['a', 1] | join('-') }}{{ [3,4] | first }}{{ [3,4] | last }}"), "a-134");
  EXPECT_EQ(render("{{ 'a.b.c'.split('.') }}{{ ' a  b '.split() }}{{ 'a-b-c'.split('-', 1)[1] }}"),
            "['a', 'b', 'c']['a', 'b']b-c");
  EXPECT_EQ(render("{{ 'ababab' | replace('ab', 'x', 2) }}{{ 'abc'.startswith('ab') }}"
                   "{{ 'abc'.endswith(('x', 'bc')) }}"),
            "xxabTrueTrue");
  EXPECT_EQ(render("{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}{{ v }}{% endfor %}"), "a1b2");
  EXPECT_EQ(render("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}"
                   "{{ messages | map(attribute='content') | join('+') }}",
                   {{"user", "p"}, {"system", "q"}, {"user", "r"}}),
            "2p+q+r");
  EXPECT_EQ(render("{{ '12' | int + 1 }}{{ 'a' | string | list }}"), "13['a']");
}

TEST(ChatTemplate, Tests) {
  EXPECT_EQ(render("{{ x is defined }}{{ x is not defined }}{{ none is none }}{{ '' is string }}"),
            "FalseTrueTrueTrue");
  EXPECT_EQ(render("{{ {} is mapping }}{{ [] is iterable }}{{ 1 is iterable }}{{ 3 is odd }}"),
            "TrueTrueFalseTrue");
  EXPECT_EQ(render("{{ not x is defined and 4 is divisibleby 2 }}{{ true is true }}"), "TrueTrue");
}

TEST(ChatTemplate, Statements) {
  EXPECT_EQ(render("{% set a = 1 %}{% if a == 2 %}x{% elif a == 1 %}y{% else %}z{% endif %}"), "y");
  EXPECT_EQ(render("{% for i in range(5) if i != 1 %}{{ loop.index0 }}{{ i }}{{ loop.last }} "
                   "{% else %}none{% endfor %}"),
            "00False 12False 23False 34True ");
  EXPECT_EQ(render("{% for i in [] %}x{% else %}none{% endfor %}"), "none");
  EXPECT_EQ(render("{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}"
                   "{% if i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}"),
            "023");
  // A set inside a loop ends with the loop; a namespace is the way around that.
  EXPECT_EQ(render("{% set n = 0 %}{% set ns = namespace(n=0) %}{% for i in [1, 2] %}"
                   "{% set n = i %}{% set ns.n = ns.n + i %}{% endfor %}{{ n }}{{ ns.n }}"),
            "03");
  EXPECT_EQ(
      render("{% macro f(a, b='B') %}<{{ a }}{{ b }}>{% endmacro %}{{ f(1) }}{{ f(2, b=3) }}"),
      "<1B><23>");
  EXPECT_EQ(render("{% set t %}a{{ 1 }}{% endset %}{{ t | upper }}"), "A1");
  EXPECT_EQ(render("{% generation %}g{% endgeneration %}{{ bos_token }}{{ eos_token }}"),
            "g<s></s>");
  EXPECT_EQ(render("{% set a, b = [1, 2] %}{{ b }}{{ a }}"), "21");
  EXPECT_EQ(render("{{ strftime_now('%Y') | length }}"), "4");
}

TEST(ChatTemplate, WhiteSpaceControl) {
  // trim_blocks takes the newline after a block, lstrip_blocks the indent before one.
  EXPECT_EQ(render("a\n  {% if true %}\n  b\n  {% endif %}\nc\n"), "a\n  b\nc");
  EXPECT_EQ(render("a  {{- 'b' -}}  \n c"), "abc");
  EXPECT_EQ(render("a\n  {# gone #}\n{{ 'b' }}\nc"), "a\nb\nc");
  EXPECT_EQ(render("a\n  {%+ if true +%}\nb{% endif %}"), "a\n  \nb");
  EXPECT_EQ(render("x {% if true %}y{% endif %}"), "x y");
  EXPECT_EQ(render("a\r\nb\n\n"), "a\nb\n");
}

TEST(ChatTemplate, Refusals) {
  expect_error([] { render("{{ raise_exception('No tools.') }}"); },
               "refuses these messages: No tools.");
  expect_error([] { render("\n{% if x %}"); }, "line 2: {% endif %} was expected");
  expect_error([] { render("{{ 'a }}"); }, "a string does not end");
  expect_error([] { render("{# a"); }, "a comment {# does not end");
  expect_error([] { render("{{ a b }}"); }, "the tag's end (}}) was expected");
  expect_error([] { render("{{ ; }}"); }, "unexpected character \";\"");
  expect_error([] { render("{% include 'x' %}"); }, "the tag {% include %} is not supported");
  expect_error([] { render("{{ 1 | frobnicate }}"); }, "the filter frobnicate is not supported");
  expect_error([] { render("{{ 1 is frobnic(2) }}"); }, "the test frobnic is not supported");
  expect_error([] { render("{{ [1].append(2) }}"); },
               "the method append of a list is not supported");
  expect_error([] { render("{{ f(1) }}"); }, "the function f is not known");
  expect_error([] { render("{{ x.y }}"); }, "\"x\" is undefined and has no field \"y\"");
  expect_error([] { render("{{ 1 + 'a' }}"); }, "an integer + a string is not supported");
  expect_error([] { render("{{ 1 // 0 }}"); }, "division by zero");
  expect_error([] { render("{{ 9223372036854775807 + 1 }}"); }, "an integer is too large");
  expect_error([] { render("{{ '\u00e9' | upper }}"); }, "only ASCII letters are");
  expect_error([] { render("{{ \xff }}"); }, "not valid UTF-8");
  expect_error([] { render("{{ messages }}", {{"user", "\xff"}}); }, "not valid UTF-8");
}

TEST(ChatTemplate, HostileTemplatesEnd) {
  expect_error(
      [] { render("{{ " + std::string(10000, '(') + "1" + std::string(10000, ')') + "}}"); },
      "nested too deeply");
  std::string sum = "{{ 1";
  for (int i = 0; i < 10000; ++i) sum += "+1";
  expect_error([&] { render(sum + "}}"); }, "an expression is too long");
  std::string ifs;
  for (int i = 0; i < 1000; ++i) ifs += "{% if 1 %}";
  expect_error([&] { render(ifs); }, "blocks are nested too deeply");
  expect_error([] { render("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"); },
               "nested too deeply");
  expect_error(
      [] {
        render("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", {},
               1 << 22);
      },
      "too much work");
  expect_error(
      [] {
        render(
            "{% set ns = namespace(s='x') %}{% for a in range(999) %}"
            "{% set ns.s = ns.s + ns.s %}{% endfor %}");
      },
      "too much work");
  expect_error(
      [] {
        render(
            "{% set ns = namespace(s=[]) %}{% for a in range(999) %}"
            "{% set ns.s = [ns.s, ns.s] %}{% endfor %}");
      },
      "nested deeper than");
  expect_error([] { render("{% set ns = namespace() %}{% set ns.a = ns %}"); },
               "a namespace cannot hold a namespace");
  expect_error([] { render("{{ range(10000000) }}"); }, "range may have at most");
}

TEST(ChatTemplate, FoundBesideTheModel) {
  const test::TemporaryDir dir;
  expect_error([&] { ChatTemplate::load(dir.path()); }, "this model has no chat template");
  dir.write("tokenizer_config.json",
            R"({"bos_token": {"content": "<b>"}, "eos_token": "<e>",
                "chat_template": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}"})");
  const std::vector<ChatMessage> messages = {{"user", "hi"}};
  EXPECT_EQ(ChatTemplate::load(dir.path()).render(messages, true), "<b>hi<e>");
  dir.write("tokenizer_config.json",
            R"({"chat_template": [{"name": "tool_use", "template": "t"},
                                  {"name": "default", "template": "d"}]})");
  EXPECT_EQ(ChatTemplate::load(dir.path()).render(messages, true), "d");
  dir.write("tokenizer_config.json", R"({"chat_template": [{"name": "x", "template": "t"}]})");
  expect_error([&] { ChatTemplate::load(dir.path()); }, "none is named \"default\"");
  dir.write("tokenizer_config.json", "{}");
  dir.write("chat_template.jinja", "file");
  EXPECT_EQ(ChatTemplate::load(dir.path()).render(messages, true), "file");
}

TEST(ChatTemplate, BundledModel) {
  const auto dir = std::filesystem::path(FASTKV_SOURCE_DIR) / "models/needle-v2-14m";
  const std::vector<ChatMessage> messages = {{"user", " hi "}};
  const std::string text = ChatTemplate::load(dir).render(messages, true);
  EXPECT_EQ(text,
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n");
  const Tokenizer tokenizer = Tokenizer::load(dir);
  const auto ids = tokenizer.encode_prompt(text, true);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), *tokenizer.bos_id()), 1);
  EXPECT_EQ(tokenizer.eos_id(), tokenizer.id_of("<|eot_id|>"));
}

}  // namespace
}  // namespace fastkv
