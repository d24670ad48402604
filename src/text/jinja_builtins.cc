#include "text/jinja_builtins.h"

#include <algorithm>
#include <array>
#include <ctime>

#include "core/utf8.h"
#include "text/jinja_text.h"

namespace fastkv::jinja {

const Value* Arguments::get(std::size_t place, std::string_view name) const {
  return place < positional.size() ? &positional[place] : find(named, name);
}

double as_double(const Value& number) {
  if (const auto* b = number.as<bool>()) return *b ? 1 : 0;
  if (const auto* i = number.as<std::int64_t>()) return static_cast<double>(*i);
  return *number.as<double>();
}

List items_of(const Call& call, const Value& value) {
  List items;
  if (const auto* l = value.list()) {
    call.budget.charge(l->size() * 64);
    return *l;
  }
  if (const auto* d = value.dict()) {
    call.budget.charge(d->size() * 64);
    for (const auto& [key, unused] : *d) items.push_back(text(key));
  } else if (const auto* s = value.string()) {
    call.budget.charge(s->size() * 64);
    for (std::size_t i = 0; i < s->size();) {
      const std::size_t length = decode_utf8(*s, i).length;
      items.push_back(text(s->substr(i, length)));
      i += length;
    }
  } else if (!value.is_undefined()) {
    call.error("{} cannot be looped over", value.type_name());
  }
  return items;
}

Value field_of(const Call& call, const Value& object, std::string_view name) {
  const Dict* fields = object.dict();
  if (const Namespace* n = object.name_space()) fields = &n->fields;
  if (const auto* u = object.as<Undefined>()) {
    call.error("\"{}\" is undefined and has no field \"{}\"", u->name, name);
  }
  const Value* value = fields ? find(*fields, name) : nullptr;
  if (!value) return undefined(name);
  if (value->string()) call.budget.charge(value->string()->size());
  return *value;
}

Value item_of(const Call& call, const Value& object, const Value& index) {
  if (const auto* name = index.string()) return field_of(call, object, *name);
  if (object.is_undefined()) return field_of(call, object, "[...]");
  const auto* place = index.as<std::int64_t>();
  if (!place) call.error("{} cannot be an index", index.type_name());
  const auto wrapped = [&](std::size_t size) {
    const auto n = static_cast<std::int64_t>(size);
    const std::int64_t i = *place < 0 ? *place + n : *place;
    return i >= 0 && i < n ? i : -1;
  };
  if (const auto* l = object.list()) {
    const std::int64_t i = wrapped(l->size());
    return i < 0 ? undefined("an item") : (*l)[static_cast<std::size_t>(i)];
  }
  if (object.string()) {
    const List characters = items_of(call, object);
    const std::int64_t i = wrapped(characters.size());
    return i < 0 ? undefined("a character") : characters[static_cast<std::size_t>(i)];
  }
  return undefined("an item");
}

int compare(const Call& call, const Value& a, const Value& b) {
  if (a.string() && b.string()) {
    call.budget.charge(std::min(a.string()->size(), b.string()->size()));
    return a.string()->compare(*b.string()) < 0 ? -1 : *a.string() != *b.string();
  }
  if (!a.is_number() || !b.is_number()) {
    call.error("{} and {} cannot be compared", a.type_name(), b.type_name());
  }
  const auto *i = a.as<std::int64_t>(), *j = b.as<std::int64_t>();
  if (i && j) return *i < *j ? -1 : *i > *j;
  const double x = as_double(a), y = as_double(b);
  return x < y ? -1 : x > y;
}

bool contains(const Call& call, const Value& container, const Value& item) {
  if (const auto* s = container.string()) {
    if (!item.string()) call.error("{} cannot be in a string", item.type_name());
    call.budget.charge(s->size());
    return s->find(*item.string()) != std::string::npos;
  }
  if (const auto* d = container.dict()) {
    return item.string() && find(*d, *item.string());
  }
  if (const auto* l = container.list()) {
    return std::any_of(l->begin(), l->end(),
                       [&](const Value& v) { return equal(v, item, call.budget); });
  }
  if (container.is_undefined()) return false;
  call.error("nothing can be in {}", container.type_name());
}

namespace {

std::size_t length_of(const Call& call, const Value& value) {
  if (const auto* s = value.string()) {
    call.budget.charge(s->size());
    return count_code_points(*s);
  }
  if (const auto* l = value.list()) return l->size();
  if (const auto* d = value.dict()) return d->size();
  if (value.is_undefined()) return 0;
  call.error("{} has no length", value.type_name());
}

List pairs_of(const Call& call, const Dict& dict) {
  call.budget.charge(dict.size() * 128);
  List pairs;
  for (const auto& [key, value] : dict) pairs.push_back(make_list({text(key), value}));
  return pairs;
}

/// An argument that must be a string; `fallback` when it is not given.
std::string string_argument(const Call& call, const Arguments& arguments, std::size_t place,
                            std::string_view name, std::string_view fallback) {
  const Value* value = arguments.get(place, name);
  if (!value) return std::string(fallback);
  if (!value->string()) call.error("argument {} must be a string", name);
  return *value->string();
}

std::int64_t integer_argument(const Call& call, const Arguments& arguments, std::size_t place,
                              std::string_view name, std::int64_t fallback) {
  const Value* value = arguments.get(place, name);
  if (!value || value->is_none()) return fallback;
  const auto* i = value->as<std::int64_t>();
  if (!i) call.error("argument {} must be an integer", name);
  return *i;
}

Value field_by_path(const Call& call, Value object, std::string_view path) {
  while (true) {
    const std::size_t dot = path.find('.');
    object = field_of(call, object, path.substr(0, dot));
    if (dot == std::string_view::npos || object.is_undefined()) return object;
    path.remove_prefix(dot + 1);
  }
}

/// select, reject, selectattr, rejectattr: the items whose (attribute's) test has the outcome
/// `wanted`; without a test, whether it is true.
Value selected(const Call& call, const Value& subject, const Arguments& arguments, bool attribute,
               bool wanted) {
  std::size_t place = 0;
  const std::string path =
      attribute ? string_argument(call, arguments, place++, "attribute", "") : std::string();
  const std::string test = string_argument(call, arguments, place++, "test", "");
  List rest;
  for (; place < arguments.positional.size(); ++place) rest.push_back(arguments.positional[place]);
  List kept;
  for (const Value& item : items_of(call, subject)) {
    const Value value = attribute ? field_by_path(call, item, path) : item;
    const bool outcome = test.empty() ? value.truthy() : apply_test(call, test, value, rest);
    if (outcome == wanted) kept.push_back(item);
  }
  return make_list(std::move(kept));
}

Value mapped(const Call& call, const Value& subject, const Arguments& arguments) {
  List out;
  if (const Value* path = find(arguments.named, "attribute")) {
    if (!path->string()) call.error("map's attribute must be a string");
    for (const Value& item : items_of(call, subject)) {
      out.push_back(field_by_path(call, item, *path->string()));
    }
    return make_list(std::move(out));
  }
  const std::string filter = string_argument(call, arguments, 0, "filter", "");
  if (filter == "map") call.error("map of map is not supported");
  Arguments rest;
  for (std::size_t i = 1; i < arguments.positional.size(); ++i) {
    rest.positional.push_back(arguments.positional[i]);
  }
  for (const Value& item : items_of(call, subject)) {
    out.push_back(apply_filter(call, filter, item, rest));
  }
  return make_list(std::move(out));
}

Value joined(const Call& call, const List& items, std::string_view separator) {
  std::string out;
  for (std::size_t i = 0; i < items.size(); ++i) {
    call.budget.charge(separator.size());
    if (i) out += separator;
    out += to_text(items[i], call.budget);
  }
  return text(std::move(out));
}

Value rounded_down(const Call& call, const Value& subject) {
  if (const auto* i = subject.as<std::int64_t>()) return integer(*i);
  if (const auto* b = subject.as<bool>()) return integer(*b ? 1 : 0);
  if (const auto* d = subject.as<double>(); d && *d > -9e18 && *d < 9e18) {
    return integer(static_cast<std::int64_t>(*d));
  }
  if (const auto* s = subject.string()) {
    const std::string_view digits = trimmed(*s, true, true);
    std::int64_t value = 0;
    const bool sign = digits.starts_with('-');
    for (char c : digits.substr(sign ? 1 : 0)) {
      if (c < '0' || c > '9' || value > 99'999'999'999'999'999) return integer(0);
      value = value * 10 + (c - '0');
    }
    return integer(sign ? -value : value);
  }
  call.error("{} cannot become an integer", subject.type_name());
}

Value indented(const Call& call, const Value& subject, const Arguments& arguments) {
  const auto width = integer_argument(call, arguments, 0, "width", 4);
  const Value* first = arguments.get(1, "first");
  if (width < 0 || width > 64) call.error("indent's width must be 0 to 64");
  const std::string space(static_cast<std::size_t>(width), ' ');
  const std::string lines = to_text(subject, call.budget);
  std::string out = first && first->truthy() ? space : "";
  for (std::size_t i = 0; i < lines.size(); ++i) {
    out += lines[i];
    const bool more = i + 1 < lines.size() && lines[i + 1] != '\n';
    if (lines[i] == '\n' && more) {
      call.budget.charge(space.size());
      out += space;
    }
  }
  return text(std::move(out));
}

/// str.split: at white space without a separator, else at each place of it.
Value split(const Call& call, std::string_view s, const Arguments& arguments) {
  const Value* given = arguments.get(0, "sep");
  std::int64_t most = integer_argument(call, arguments, 1, "maxsplit", -1);
  List parts;
  if (!given || given->is_none()) {
    for (s = trimmed(s, true, false); !s.empty(); s = trimmed(s, true, false)) {
      std::size_t end = 0;
      while (end < s.size() && !trimmed(s.substr(end), true, false).empty() &&
             trimmed(s.substr(end, decode_utf8(s, end).length), true, false).size()) {
        end += decode_utf8(s, end).length;
        call.budget.charge(16);
      }
      if (most-- == 0) {
        parts.push_back(text(std::string(s)));
        break;
      }
      parts.push_back(text(std::string(s.substr(0, end))));
      s.remove_prefix(end);
    }
    return make_list(std::move(parts));
  }
  const std::string separator = string_argument(call, arguments, 0, "sep", "");
  if (separator.empty()) call.error("split needs a separator that is not empty");
  for (std::size_t at = s.find(separator); at != std::string_view::npos && most != 0;
       at = s.find(separator), --most) {
    parts.push_back(text(std::string(s.substr(0, at))));
    s.remove_prefix(at + separator.size());
    call.budget.charge(64);
  }
  parts.push_back(text(std::string(s)));
  return make_list(std::move(parts));
}

bool has_affix(const Call& call, std::string_view s, const Arguments& arguments, bool prefix) {
  const Value* affix = arguments.get(0, "prefix");
  if (!affix) call.error("startswith and endswith need an argument");
  const List choices = affix->list() ? *affix->list() : List{*affix};
  return std::any_of(choices.begin(), choices.end(), [&](const Value& c) {
    if (!c.string()) call.error("startswith and endswith need strings");
    return prefix ? s.starts_with(*c.string()) : s.ends_with(*c.string());
  });
}

std::size_t occurrences(std::string_view s, std::string_view part) {
  std::size_t n = 0;
  for (std::size_t at = s.find(part); at != std::string_view::npos && !part.empty();
       at = s.find(part, at + part.size())) {
    ++n;
  }
  return n;
}

constexpr std::size_t longest_string = std::size_t{1} << 26;

Value replace_in(const Call& call, std::string_view s, const Arguments& arguments) {
  const std::string from = string_argument(call, arguments, 0, "old", "");
  const std::string to = string_argument(call, arguments, 1, "new", "");
  const std::int64_t count = integer_argument(call, arguments, 2, "count", -1);
  std::string out = replaced(s, from, to, count, std::max(longest_string, 2 * s.size()));
  call.budget.charge(out.size());
  return text(std::move(out));
}

Value string_method(const Call& call, const std::string& s, std::string_view name,
                    const Arguments& arguments) {
  call.budget.charge(s.size());
  if (name == "strip" || name == "lstrip" || name == "rstrip") {
    const bool left = name != "rstrip", right = name != "lstrip";
    const Value* characters = arguments.get(0, "chars");
    if (!characters || characters->is_none()) return text(std::string(trimmed(s, left, right)));
    const std::string set = string_argument(call, arguments, 0, "chars", "");
    call.budget.charge(s.size() * set.size());
    return text(std::string(trimmed(s, left, right, set)));
  }
  if (name == "split") return split(call, s, arguments);
  if (name == "startswith") return boolean(has_affix(call, s, arguments, true));
  if (name == "endswith") return boolean(has_affix(call, s, arguments, false));
  if (name == "upper") return text(to_upper(s));
  if (name == "lower") return text(to_lower(s));
  if (name == "title") return text(capitalized(s, true));
  if (name == "capitalize") return text(capitalized(s, false));
  if (name == "replace") return replace_in(call, s, arguments);
  if (name == "join") {
    const Value* items = arguments.get(0, "iterable");
    if (!items) call.error("join needs an argument");
    return joined(call, items_of(call, *items), s);
  }
  const std::string part = string_argument(call, arguments, 0, "sub", "");
  if (name == "count") return integer(static_cast<std::int64_t>(occurrences(s, part)));
  if (name == "find") {
    const std::size_t at = s.find(part);
    if (at == std::string::npos) return integer(-1);
    return integer(static_cast<std::int64_t>(count_code_points(s.substr(0, at))));
  }
  if (name == "removeprefix") return text(s.starts_with(part) ? s.substr(part.size()) : s);
  if (name == "removesuffix") {
    return text(s.ends_with(part) ? s.substr(0, s.size() - part.size()) : s);
  }
  call.error("the method {} of strings is not supported", name);
}

}  // namespace

Value call_method(const Call& call, const Value& object, std::string_view name,
                  const Arguments& arguments) {
  if (const auto* s = object.string()) return string_method(call, *s, name, arguments);
  if (const auto* d = object.dict()) {
    if (name == "items") return make_list(pairs_of(call, *d));
    if (name == "keys") return make_list(items_of(call, object));
    if (name == "values") {
      List values;
      for (const auto& [key, value] : *d) values.push_back(value);
      return make_list(std::move(values));
    }
    if (name == "get") {
      const std::string key = string_argument(call, arguments, 0, "key", "");
      if (const Value* value = find(*d, key)) return *value;
      const Value* fallback = arguments.get(1, "default");
      return fallback ? *fallback : none();
    }
  }
  if (const auto* u = object.as<Undefined>()) {
    call.error("\"{}\" is undefined and has no method {}", u->name, name);
  }
  call.error("the method {} of {} is not supported", name, object.type_name());
}

Value call_function(const Call& call, Function function, const Arguments& arguments) {
  switch (function) {
    case Function::raise_exception:
      fail("The chat template refuses these messages: {}",
           string_argument(call, arguments, 0, "message", "it gives no reason."));
    case Function::make_namespace:
    case Function::make_dict: {
      if (!arguments.positional.empty()) call.error("only named arguments are supported here");
      if (function == Function::make_dict) return make_dict(arguments.named);
      make_dict(arguments.named);  // checks what may be held
      return {std::make_shared<Namespace>(Namespace{arguments.named})};
    }
    case Function::range: {
      const bool one = arguments.positional.size() < 2;
      const auto first = one ? 0 : integer_argument(call, arguments, 0, "start", 0);
      const auto last = integer_argument(call, arguments, one ? 0 : 1, "stop", 0);
      const auto step = integer_argument(call, arguments, 2, "step", 1);
      constexpr std::int64_t most = 100'000;  // as Jinja's sandbox has it
      constexpr std::int64_t bound = std::int64_t{1} << 40;
      if (step == 0 || std::max({std::abs(step), std::abs(first), std::abs(last)}) > bound ||
          (last - first) / step > most) {
        call.error("range may have at most {} items", most);
      }
      List items;
      for (std::int64_t i = first; step > 0 ? i < last : i > last; i += step) {
        items.push_back(integer(i));
      }
      call.budget.charge(items.size() * 64);
      return make_list(std::move(items));
    }
    case Function::strftime_now: {
      const std::string format = string_argument(call, arguments, 0, "format", "");
      const std::time_t now = std::time(nullptr);
      std::tm local{};
      localtime_r(&now, &local);
      std::array<char, 256> buffer{};
      const std::size_t n = std::strftime(buffer.data(), buffer.size(), format.c_str(), &local);
      if (n == 0 && !format.empty()) call.error("the time format is not usable");
      return text(replace_invalid_utf8({buffer.data(), n}));
    }
  }
  call.error("unknown function");
}

Value apply_filter(const Call& call, std::string_view name, const Value& subject,
                   const Arguments& arguments) {
  call.budget.charge(64);
  const auto as_text = [&] { return to_text(subject, call.budget); };
  if (name == "trim") {
    return string_method(call, as_text(), "strip", arguments);
  }
  if (name == "length" || name == "count") {
    return integer(static_cast<std::int64_t>(length_of(call, subject)));
  }
  if (name == "tojson") {
    const auto indent = integer_argument(call, arguments, 0, "indent", -1);
    if (indent > 64) call.error("tojson's indent must be 0 to 64");
    return text(
        to_json(subject, static_cast<int>(std::max<std::int64_t>(indent, -1)), call.budget));
  }
  if (name == "default" || name == "d") {
    const Value* fallback = arguments.get(0, "default_value");
    const Value* any_false = arguments.get(1, "boolean");
    const bool replace =
        subject.is_undefined() || (any_false && any_false->truthy() && !subject.truthy());
    return !replace ? subject : fallback ? *fallback : text("");
  }
  if (name == "upper" || name == "lower" || name == "title" || name == "capitalize" ||
      name == "replace") {
    return string_method(call, as_text(), name, arguments);
  }
  if (name == "string" || name == "safe") return text(as_text());
  if (name == "join") {
    const std::string separator = string_argument(call, arguments, 0, "d", "");
    List items = items_of(call, subject);
    if (const Value* path = arguments.get(1, "attribute"); path && path->string()) {
      for (Value& item : items) item = field_by_path(call, item, *path->string());
    }
    return joined(call, items, separator);
  }
  if (name == "first" || name == "last") {
    const List items = items_of(call, subject);
    return items.empty() ? undefined("an item") : name == "first" ? items.front() : items.back();
  }
  if (name == "list") return make_list(items_of(call, subject));
  if (name == "reverse") {
    List items = items_of(call, subject);
    std::reverse(items.begin(), items.end());
    return subject.string() ? joined(call, items, "") : make_list(std::move(items));
  }
  if (name == "items") {
    if (subject.is_undefined()) return make_list({});
    if (!subject.dict()) call.error("items needs a dict, not {}", subject.type_name());
    return make_list(pairs_of(call, *subject.dict()));
  }
  if (name == "select" || name == "reject") {
    return selected(call, subject, arguments, /*attribute=*/false, name == "select");
  }
  if (name == "selectattr" || name == "rejectattr") {
    return selected(call, subject, arguments, /*attribute=*/true, name == "selectattr");
  }
  if (name == "map") return mapped(call, subject, arguments);
  if (name == "int") return rounded_down(call, subject);
  if (name == "float" && subject.is_number()) return {as_double(subject)};
  if (name == "abs" && subject.is_number()) {
    if (subject.as<double>()) return {std::abs(*subject.as<double>())};
    const Value i = rounded_down(call, subject);
    if (*i.as<std::int64_t>() == INT64_MIN) call.error("an integer is too large");
    return integer(std::abs(*i.as<std::int64_t>()));
  }
  if (name == "indent") return indented(call, subject, arguments);
  call.error("the filter {} is not supported for {}", name, subject.type_name());
}

bool apply_test(const Call& call, std::string_view name, const Value& subject,
                const List& arguments) {
  call.budget.charge(64);
  if (name == "defined") return !subject.is_undefined();
  if (name == "undefined") return subject.is_undefined();
  if (name == "none") return subject.is_none();
  if (name == "string") return subject.string();
  if (name == "mapping") return subject.dict();
  if (name == "sequence" || name == "iterable") {
    return subject.list() || subject.dict() || subject.string() || subject.is_undefined();
  }
  if (name == "number") return subject.is_number();
  if (name == "integer") return subject.as<std::int64_t>();
  if (name == "float") return subject.as<double>();
  if (name == "boolean") return subject.as<bool>();
  if (name == "true") return subject.as<bool>() && *subject.as<bool>();
  if (name == "false") return subject.as<bool>() && !*subject.as<bool>();
  if (name == "callable") return subject.as<Function>() || subject.as<const Statement*>();
  if (name == "odd" || name == "even") {
    const auto* i = subject.as<std::int64_t>();
    if (!i) call.error("{} is neither odd nor even", subject.type_name());
    return (*i % 2 != 0) == (name == "odd");
  }
  if (arguments.empty()) call.error("the test {} is not supported, or lacks its argument", name);
  const Value& other = arguments[0];
  if (name == "equalto" || name == "eq" || name == "==" || name == "sameas") {
    return equal(subject, other, call.budget);
  }
  if (name == "ne") return !equal(subject, other, call.budget);
  if (name == "in") return contains(call, other, subject);
  if (name == "lt" || name == "lessthan") return compare(call, subject, other) < 0;
  if (name == "le") return compare(call, subject, other) <= 0;
  if (name == "gt" || name == "greaterthan") return compare(call, subject, other) > 0;
  if (name == "ge") return compare(call, subject, other) >= 0;
  if (name == "divisibleby") {
    const auto *i = subject.as<std::int64_t>(), *j = other.as<std::int64_t>();
    if (!i || !j || *j == 0 || *j == -1) call.error("divisibleby needs two integers");
    return *i % *j == 0;
  }
  call.error("the test {} is not supported", name);
}

}  // namespace fastkv::jinja
