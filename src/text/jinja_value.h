#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

// The values of the template language. Lists and dicts never change once made, so copies are cheap
// and there are no cycles; only a namespace changes, and nothing can hold a namespace.

namespace fastkv::jinja {

struct Value;
struct Statement;

using List = std::vector<Value>;
using Dict = std::vector<std::pair<std::string, Value>>;  // in the order of insertion

/// What a template may take before it is stopped: a hostile one must end with an Error.
class Budget {
 public:
  static constexpr std::int64_t default_work = std::int64_t{1} << 30;
  explicit Budget(std::int64_t work = default_work) : left_(work) {}
  /// Pays for `units` bytes of work; throws Error when nothing is left.
  void charge(std::size_t units);

 private:
  std::int64_t left_;
};

struct Undefined {
  std::string name;  // for messages
};
struct None {};
struct ListBox;
struct DictBox;
struct Namespace;
enum class Function { raise_exception, strftime_now, range, make_namespace, make_dict };

struct Value {
  std::variant<Undefined, None, bool, std::int64_t, double, std::string,
               std::shared_ptr<const ListBox>, std::shared_ptr<const DictBox>,
               std::shared_ptr<Namespace>, const Statement*, Function>
      data;

  template <class T>
  const T* as() const {
    return std::get_if<T>(&data);
  }
  bool is_undefined() const { return std::holds_alternative<Undefined>(data); }
  bool is_none() const { return std::holds_alternative<None>(data); }
  const std::string* string() const { return std::get_if<std::string>(&data); }
  const List* list() const;
  const Dict* dict() const;
  Namespace* name_space() const;
  /// True for int, float and bool, which is a number in this language.
  bool is_number() const;
  bool truthy() const;
  /// What messages call this value: "a string", "a list", ...
  std::string_view type_name() const;
  /// Levels of lists and dicts inside.
  int depth() const;
};

struct Namespace {
  Dict fields;
};

inline Value undefined(std::string_view name) { return {Undefined{std::string(name)}}; }
inline Value none() { return {None{}}; }
inline Value boolean(bool b) { return {b}; }
inline Value integer(std::int64_t i) { return {i}; }
inline Value text(std::string s) { return {std::move(s)}; }
/// Throw Error when values would be nested too deeply or a namespace would be held.
Value make_list(List items);
Value make_dict(Dict fields);

/// The field's value; nullptr when there is none.
const Value* find(const Dict& dict, std::string_view key);
/// Sets or adds a field.
void assign(Dict& dict, std::string_view key, Value value);

bool equal(const Value& a, const Value& b, Budget& budget);
/// What `{{ value }}` prints: strings as they are, other values as Python writes them.
std::string to_text(const Value& value, Budget& budget);
/// As Python's json.dumps(ensure_ascii=False) writes it; `indent` < 0: on one line.
std::string to_json(const Value& value, int indent, Budget& budget);

}  // namespace fastkv::jinja
