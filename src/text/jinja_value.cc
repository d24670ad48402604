#include "text/jinja_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace fastkv::jinja {

constexpr int max_depth = 48;

struct ListBox {
  List items;
  int depth;
};
struct DictBox {
  Dict fields;
  int depth;
};

void Budget::charge(std::size_t units) {
  left_ -= static_cast<std::int64_t>(std::min<std::size_t>(units, std::size_t{1} << 40));
  if (left_ < 0) fail("The chat template does too much work; it may never end.");
}

const List* Value::list() const {
  const auto* box = as<std::shared_ptr<const ListBox>>();
  return box ? &(*box)->items : nullptr;
}
const Dict* Value::dict() const {
  const auto* box = as<std::shared_ptr<const DictBox>>();
  return box ? &(*box)->fields : nullptr;
}
Namespace* Value::name_space() const {
  const auto* box = as<std::shared_ptr<Namespace>>();
  return box ? box->get() : nullptr;
}

bool Value::is_number() const { return as<bool>() || as<std::int64_t>() || as<double>(); }

bool Value::truthy() const {
  if (is_undefined() || is_none()) return false;
  if (const auto* b = as<bool>()) return *b;
  if (const auto* i = as<std::int64_t>()) return *i != 0;
  if (const auto* d = as<double>()) return *d != 0;
  if (const auto* s = string()) return !s->empty();
  if (const auto* l = list()) return !l->empty();
  if (const auto* d = dict()) return !d->empty();
  return true;
}

std::string_view Value::type_name() const {
  constexpr std::string_view names[] = {"undefined",   "none",     "a boolean", "an integer",
                                        "a float",     "a string", "a list",    "a dict",
                                        "a namespace", "a macro",  "a function"};
  return names[data.index()];
}

int Value::depth() const {
  if (const auto* l = as<std::shared_ptr<const ListBox>>()) return (*l)->depth;
  if (const auto* d = as<std::shared_ptr<const DictBox>>()) return (*d)->depth;
  return 0;
}

namespace {

void check_item(const Value& item, int& depth) {
  if (item.name_space()) fail("Chat template: a list or dict cannot hold a namespace.");
  depth = std::max(depth, item.depth() + 1);
  if (depth > max_depth) fail("Chat template: values are nested deeper than {}.", max_depth);
}

}  // namespace

Value make_list(List items) {
  int depth = 1;
  for (const Value& item : items) check_item(item, depth);
  return {std::make_shared<const ListBox>(ListBox{std::move(items), depth})};
}

Value make_dict(Dict fields) {
  int depth = 1;
  for (const auto& [key, item] : fields) check_item(item, depth);
  return {std::make_shared<const DictBox>(DictBox{std::move(fields), depth})};
}

const Value* find(const Dict& dict, std::string_view key) {
  for (const auto& [name, value] : dict) {
    if (name == key) return &value;
  }
  return nullptr;
}

void assign(Dict& dict, std::string_view key, Value value) {
  for (auto& [name, old] : dict) {
    if (name == key) {
      old = std::move(value);
      return;
    }
  }
  dict.emplace_back(key, std::move(value));
}

namespace {

double as_double(const Value& v) {
  if (const auto* b = v.as<bool>()) return *b ? 1 : 0;
  if (const auto* i = v.as<std::int64_t>()) return static_cast<double>(*i);
  return *v.as<double>();
}

std::string float_text(double d) {
  if (std::isnan(d)) return "nan";
  if (std::isinf(d)) return d > 0 ? "inf" : "-inf";
  std::string s = fmt::format("{}", d);
  if (s.find_first_of(".e") == std::string::npos) s += ".0";
  return s;
}

/// A string as Python's repr writes it.
std::string quoted(std::string_view s) {
  const bool doubled = s.find('\'') != s.npos && s.find('"') == s.npos;
  const char quote = doubled ? '"' : '\'';
  std::string out(1, quote);
  for (char c : s) {
    const auto u = static_cast<unsigned char>(c);
    if (c == quote || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (u < 0x20 || u == 0x7F) {
      out += fmt::format("\\x{:02x}", u);
    } else {
      out += c;
    }
  }
  return out += quote;
}

std::string json_quoted(std::string_view s) {
  std::string out = "\"";
  for (char c : s) {
    const auto u = static_cast<unsigned char>(c);
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (u < 0x20) {
          out += fmt::format("\\u{:04x}", u);
        } else {
          out += c;
        }
    }
  }
  return out += '"';
}

/// Writes values the way of Python's str() or of json.dumps(); `out` may be long, so each part is
/// paid for as it is written.
class Writer {
 public:
  Writer(bool json, int indent, Budget& budget) : json_(json), indent_(indent), budget_(budget) {}

  void write(const Value& v, int level) {
    if (const auto* s = v.string()) {
      put(json_ ? json_quoted(*s) : quoted(*s));
    } else if (const auto* l = v.list()) {
      open('[', level, l->empty());
      for (std::size_t i = 0; i < l->size(); ++i) {
        separate(i, level);
        write((*l)[i], level + 1);
      }
      close(']', level, l->empty());
    } else if (const auto* d = v.dict()) {
      open('{', level, d->empty());
      for (std::size_t i = 0; i < d->size(); ++i) {
        separate(i, level);
        put(json_ ? json_quoted((*d)[i].first) : quoted((*d)[i].first));
        put(": ");
        write((*d)[i].second, level + 1);
      }
      close('}', level, d->empty());
    } else {
      put(scalar(v));
    }
  }
  std::string take() { return std::move(out_); }

 private:
  void put(std::string_view s) {
    budget_.charge(s.size() + 8);
    out_ += s;
  }
  void line(int level) {
    put("\n");
    put(std::string(static_cast<std::size_t>(indent_ * level), ' '));
  }
  void open(char c, int level, bool empty) {
    put({&c, 1});
    if (indent_ >= 0 && !empty) line(level + 1);
  }
  void close(char c, int level, bool empty) {
    if (indent_ >= 0 && !empty) line(level);
    put({&c, 1});
  }
  void separate(std::size_t i, int level) {
    if (i == 0) return;
    put(indent_ >= 0 ? "," : ", ");
    if (indent_ >= 0) line(level + 1);
  }
  std::string scalar(const Value& v) const {
    if (const auto* b = v.as<bool>()) {
      if (json_) return *b ? "true" : "false";
      return *b ? "True" : "False";
    }
    if (const auto* i = v.as<std::int64_t>()) return std::to_string(*i);
    if (const auto* d = v.as<double>()) return float_text(*d);
    if (v.is_none()) return json_ ? "null" : "None";
    if (v.is_undefined() && !json_) return "";
    fail("Chat template: {} cannot be written as {}.", v.type_name(), json_ ? "JSON" : "text");
  }

  bool json_;
  int indent_;
  Budget& budget_;
  std::string out_;
};

}  // namespace

bool equal(const Value& a, const Value& b, Budget& budget) {
  budget.charge(16);
  if (a.is_number() && b.is_number()) {
    const auto *i = a.as<std::int64_t>(), *j = b.as<std::int64_t>();
    return i && j ? *i == *j : as_double(a) == as_double(b);
  }
  if (a.data.index() != b.data.index()) return false;
  if (const auto* s = a.string()) {
    budget.charge(std::min(s->size(), b.string()->size()));
    return *s == *b.string();
  }
  if (const auto* l = a.list()) {
    const List& m = *b.list();
    if (l->size() != m.size()) return false;
    for (std::size_t i = 0; i < m.size(); ++i) {
      if (!equal((*l)[i], m[i], budget)) return false;
    }
    return true;
  }
  if (const auto* d = a.dict()) {
    if (d->size() != b.dict()->size()) return false;
    for (const auto& [key, value] : *d) {
      budget.charge(d->size());
      const Value* other = find(*b.dict(), key);
      if (!other || !equal(value, *other, budget)) return false;
    }
    return true;
  }
  if (const auto* f = a.as<Function>()) return *f == *b.as<Function>();
  if (const auto* m = a.as<const Statement*>()) return *m == *b.as<const Statement*>();
  return a.name_space() == b.name_space();  // null for undefined and none, which equal themselves
}

std::string to_text(const Value& value, Budget& budget) {
  if (const auto* s = value.string()) {
    budget.charge(s->size());
    return *s;
  }
  Writer writer(/*json=*/false, /*indent=*/-1, budget);
  writer.write(value, 0);
  return writer.take();
}

std::string to_json(const Value& value, int indent, Budget& budget) {
  Writer writer(/*json=*/true, indent, budget);
  writer.write(value, 0);
  return writer.take();
}

}  // namespace fastkv::jinja
