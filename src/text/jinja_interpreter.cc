#include "text/jinja_interpreter.h"

#include <algorithm>
#include <cmath>

#include "text/jinja_text.h"

namespace fastkv::jinja {
namespace {

constexpr int max_depth = 300;  // of statements, expressions and macro calls inside each other
constexpr std::size_t longest_output = std::size_t{1} << 30;

/// Counts a level of recursion for as long as it lives.
class Level {
 public:
  Level(int& depth, int line) : depth_(depth) {
    if (++depth_ > max_depth) {
      --depth_;
      fail("Chat template, line {}: blocks, expressions and macros are nested too deeply.", line);
    }
  }
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;
  ~Level() { --depth_; }

 private:
  int& depth_;
};

}  // namespace

Interpreter::Interpreter(Dict variables, Budget& budget) : budget_(budget) {
  scopes_.push_back(std::move(variables));
  assign(scopes_[0], "raise_exception", {Function::raise_exception});
  assign(scopes_[0], "strftime_now", {Function::strftime_now});
  assign(scopes_[0], "range", {Function::range});
  assign(scopes_[0], "namespace", {Function::make_namespace});
  assign(scopes_[0], "dict", {Function::make_dict});
}

std::string Interpreter::run(const Body& body) {
  execute(body);
  return std::move(out_);
}

void Interpreter::print(std::string_view text) {
  budget_.charge(text.size());
  if (text.size() > longest_output - out_.size()) fail("The chat template prints too much.");
  out_ += text;
}

Interpreter::Flow Interpreter::execute(const Body& body) {
  for (const Statement& s : body) {
    const Flow flow = execute(s);
    if (flow != Flow::go_on) return flow;
  }
  return Flow::go_on;
}

Interpreter::Flow Interpreter::execute(const Statement& s) {
  using Kind = Statement::Kind;
  const Level level(depth_, s.line);
  budget_.charge(32);
  switch (s.kind) {
    case Kind::text:
      print(s.text);
      break;
    case Kind::output:
      print(to_text(evaluate(*s.condition), budget_));
      break;
    case Kind::branch:
      return execute(evaluate(*s.condition).truthy() ? s.body : s.otherwise);
    case Kind::loop:
      return loop(s);
    case Kind::set:
      set(s);
      break;
    case Kind::set_block:
      assign(scopes_.back(), s.names[0], text(captured(s.body)));
      break;
    case Kind::macro:
      assign(scopes_.back(), s.text, {&s});
      break;
    case Kind::block:
      return execute(s.body);
    case Kind::break_loop:
      return Flow::break_loop;
    case Kind::continue_loop:
      return Flow::continue_loop;
  }
  return Flow::go_on;
}

std::string Interpreter::captured(const Body& body) {
  std::string outer = std::exchange(out_, {});
  execute(body);
  return std::exchange(out_, std::move(outer));
}

void Interpreter::unpack(const Statement& s, const Value& value, Dict& scope) {
  if (s.names.size() == 1) return assign(scope, s.names[0], value);
  const List items = items_of(at(s.line), value);
  if (items.size() != s.names.size()) {
    at(s.line).error("{} values cannot be taken as {} names", items.size(), s.names.size());
  }
  for (std::size_t i = 0; i < items.size(); ++i) assign(scope, s.names[i], items[i]);
}

void Interpreter::set(const Statement& s) {
  Value value = evaluate(*s.condition);
  if (s.attribute.empty()) return unpack(s, value, scopes_.back());
  Expression owner;
  owner.kind = Expression::Kind::name;
  owner.text = s.names[0];
  const Value target = name(owner);
  Namespace* fields = target.name_space();
  if (!fields) at(s.line).error("only a namespace's fields can be set, \"{}\" is none", s.names[0]);
  if (value.name_space()) at(s.line).error("a namespace cannot hold a namespace");
  assign(fields->fields, s.attribute, std::move(value));
}

Interpreter::Flow Interpreter::loop(const Statement& s) {
  List items = items_of(at(s.line), evaluate(*s.condition));
  if (s.filter) {
    List kept;
    for (const Value& item : items) {
      scopes_.emplace_back();
      unpack(s, item, scopes_.back());
      if (evaluate(*s.filter).truthy()) kept.push_back(item);
      scopes_.pop_back();
    }
    items = std::move(kept);
  }
  if (items.empty()) return execute(s.otherwise);
  const auto count = static_cast<std::int64_t>(items.size());
  for (std::int64_t i = 0; i < count; ++i) {
    budget_.charge(512);
    const auto at_index = [&](std::int64_t k) {
      return k >= 0 && k < count ? items[static_cast<std::size_t>(k)] : undefined("a loop's item");
    };
    scopes_.emplace_back();
    unpack(s, at_index(i), scopes_.back());
    assign(scopes_.back(), "loop",
           make_dict({{"index", integer(i + 1)},
                      {"index0", integer(i)},
                      {"revindex", integer(count - i)},
                      {"revindex0", integer(count - i - 1)},
                      {"first", boolean(i == 0)},
                      {"last", boolean(i + 1 == count)},
                      {"length", integer(count)},
                      {"previtem", at_index(i - 1)},
                      {"nextitem", at_index(i + 1)}}));
    const Flow flow = execute(s.body);
    scopes_.pop_back();
    if (flow == Flow::break_loop) break;
  }
  return Flow::go_on;
}

Value Interpreter::evaluate(const Expression& e) {
  using Kind = Expression::Kind;
  const Level level(depth_, e.line);
  budget_.charge(32);
  switch (e.kind) {
    case Kind::literal:
      if (e.value.string()) budget_.charge(e.value.string()->size());
      return e.value;
    case Kind::name:
      return name(e);
    case Kind::list: {
      List items;
      for (const auto& part : e.parts) items.push_back(evaluate(*part));
      return make_list(std::move(items));
    }
    case Kind::dict: {
      Dict fields;
      for (std::size_t i = 0; i + 1 < e.parts.size(); i += 2) {
        const Value key = evaluate(*e.parts[i]);
        if (!key.string()) at(e.line).error("a dict's key must be a string");
        budget_.charge(fields.size() * 8);
        assign(fields, *key.string(), evaluate(*e.parts[i + 1]));
      }
      return make_dict(std::move(fields));
    }
    case Kind::attribute:
      return field_of(at(e.line), evaluate(*e.parts[0]), e.text);
    case Kind::index: {
      const Value object = evaluate(*e.parts[0]);
      return item_of(at(e.line), object, evaluate(*e.parts[1]));
    }
    case Kind::slice:
      return slice(e);
    case Kind::call:
      return call(e);
    case Kind::filter: {
      const Value subject = evaluate(*e.parts[0]);
      return apply_filter(at(e.line), e.text, subject, arguments_of(e));
    }
    case Kind::test: {
      const Value subject = evaluate(*e.parts[0]);
      return boolean(apply_test(at(e.line), e.text, subject, arguments_of(e).positional));
    }
    case Kind::unary:
      return unary(e);
    case Kind::binary:
      return binary(e);
    case Kind::comparison:
      return boolean(compare_chain(e));
    case Kind::conditional:
      if (evaluate(*e.parts[1]).truthy()) return evaluate(*e.parts[0]);
      return e.parts[2] ? evaluate(*e.parts[2]) : undefined("an if without else");
  }
  return none();
}

Value Interpreter::name(const Expression& e) {
  const Value* value = nullptr;
  for (std::size_t i = scopes_.size(); !value && i-- > base_;) {
    budget_.charge(scopes_[i].size());
    value = find(scopes_[i], e.text);
  }
  if (!value) value = find(scopes_[0], e.text);
  if (!value) return undefined(e.text);
  if (value->string()) budget_.charge(value->string()->size());
  return *value;
}

Value Interpreter::slice(const Expression& e) {
  const Value object = evaluate(*e.parts[0]);
  const auto bound = [&](std::size_t part, std::int64_t fallback) {
    if (!e.parts[part]) return fallback;
    const Value v = evaluate(*e.parts[part]);
    if (v.is_none()) return fallback;
    const auto* i = v.as<std::int64_t>();
    if (!i) at(e.line).error("a slice's bound must be an integer");
    return *i;
  };
  if (!object.list() && !object.string()) {
    at(e.line).error("{} cannot be sliced", object.type_name());
  }
  const List items = items_of(at(e.line), object);
  const auto size = static_cast<std::int64_t>(items.size());
  const std::int64_t step = bound(3, 1);
  if (step == 0) at(e.line).error("a slice's step must not be 0");
  // Python's rules: negative bounds count from the end, then all are clamped.
  const std::int64_t low = step > 0 ? 0 : -1, high = step > 0 ? size : size - 1;
  const auto clamped = [&](std::int64_t i) { return std::clamp(i < 0 ? i + size : i, low, high); };
  const std::int64_t first =
      e.parts[1] ? clamped(bound(1, step > 0 ? 0 : size)) : (step > 0 ? 0 : size - 1);
  const std::int64_t last =
      e.parts[2] ? clamped(bound(2, step > 0 ? size : -size - 1)) : (step > 0 ? size : -1);
  List kept;
  const std::int64_t stride = std::clamp<std::int64_t>(step, -size - 1, size + 1);
  for (std::int64_t i = first; step > 0 ? i < last : i > last; i += stride) {
    kept.push_back(items[static_cast<std::size_t>(i)]);
  }
  if (object.list()) return make_list(std::move(kept));
  std::string characters;
  for (const Value& c : kept) characters += *c.string();
  return text(std::move(characters));
}

Arguments Interpreter::arguments_of(const Expression& e) {
  Arguments arguments;
  for (std::size_t i = 1; i < e.parts.size(); ++i) {
    arguments.positional.push_back(evaluate(*e.parts[i]));
  }
  for (const auto& [key, part] : e.named) assign(arguments.named, key, evaluate(*part));
  return arguments;
}

Value Interpreter::call(const Expression& e) {
  const Expression& target = *e.parts[0];
  if (target.kind == Expression::Kind::attribute) {
    const Value object = evaluate(*target.parts[0]);
    return call_method(at(e.line), object, target.text, arguments_of(e));
  }
  const Value function = evaluate(target);
  const Arguments arguments = arguments_of(e);
  if (const auto* f = function.as<Function>()) return call_function(at(e.line), *f, arguments);
  if (const auto* macro = function.as<const Statement*>()) {
    return call_macro(**macro, arguments, e.line);
  }
  if (function.is_undefined()) at(e.line).error("the function {} is not known", target.text);
  at(e.line).error("{} cannot be called", function.type_name());
}

Value Interpreter::call_macro(const Statement& macro, const Arguments& arguments, int line) {
  if (arguments.positional.size() > macro.names.size()) {
    at(line).error("the macro {} takes at most {} arguments", macro.text, macro.names.size());
  }
  for (const auto& [key, unused] : arguments.named) {
    if (std::find(macro.names.begin(), macro.names.end(), key) == macro.names.end()) {
      at(line).error("the macro {} has no argument {}", macro.text, key);
    }
  }
  Dict scope;
  for (std::size_t i = 0; i < macro.names.size(); ++i) {
    const Value* given = arguments.get(i, macro.names[i]);
    Value value = given               ? *given
                  : macro.defaults[i] ? evaluate(*macro.defaults[i])
                                      : undefined(macro.names[i]);
    scope.emplace_back(macro.names[i], std::move(value));
  }
  scopes_.push_back(std::move(scope));
  const std::size_t outer = std::exchange(base_, scopes_.size() - 1);
  std::string out = captured(macro.body);
  base_ = outer;
  scopes_.pop_back();
  return text(std::move(out));
}

Value Interpreter::unary(const Expression& e) {
  const Value v = evaluate(*e.parts[0]);
  if (e.text == "not") return boolean(!v.truthy());
  if (!v.is_number()) at(e.line).error("{} has no sign", v.type_name());
  if (const auto* d = v.as<double>()) return {e.text == "-" ? -*d : *d};
  const std::int64_t i = v.as<bool>() ? (*v.as<bool>() ? 1 : 0) : *v.as<std::int64_t>();
  if (i == INT64_MIN) at(e.line).error("an integer is too large");
  return integer(e.text == "-" ? -i : i);
}

Value Interpreter::binary(const Expression& e) {
  const Value a = evaluate(*e.parts[0]);
  if (e.text == "and") return a.truthy() ? evaluate(*e.parts[1]) : a;
  if (e.text == "or") return a.truthy() ? a : evaluate(*e.parts[1]);
  const Value b = evaluate(*e.parts[1]);
  if (e.text == "~") return text(to_text(a, budget_) + to_text(b, budget_));
  return arithmetic(e, a, b);
}

Value Interpreter::arithmetic(const Expression& e, const Value& a, const Value& b) {
  const std::string& op = e.text;
  if (op == "+" && a.string() && b.string()) {
    budget_.charge(a.string()->size() + b.string()->size());
    return text(*a.string() + *b.string());
  }
  if (op == "+" && a.list() && b.list()) {
    List items = items_of(at(e.line), a);
    const List more = items_of(at(e.line), b);
    items.insert(items.end(), more.begin(), more.end());
    return make_list(std::move(items));
  }
  if (op == "*" && a.string() && b.as<std::int64_t>()) {
    std::string out;
    for (std::int64_t i = 0; i < *b.as<std::int64_t>() && !a.string()->empty(); ++i) {
      budget_.charge(a.string()->size() + 8);
      out += *a.string();
    }
    return text(std::move(out));
  }
  if (!a.is_number() || !b.is_number()) {
    for (const Value* v : {&a, &b}) {
      if (const auto* u = v->as<Undefined>()) at(e.line).error("\"{}\" is undefined", u->name);
    }
    at(e.line).error("{} {} {} is not supported", a.type_name(), op, b.type_name());
  }
  const auto whole = [](const Value& v) {
    return v.as<bool>() ? std::int64_t{*v.as<bool>()} : *v.as<std::int64_t>();
  };
  if (!a.as<double>() && !b.as<double>() && op != "/") {
    return integer_arithmetic(e, whole(a), whole(b));
  }
  const double x = as_double(a), y = as_double(b);
  if (op == "+") return {x + y};
  if (op == "-") return {x - y};
  if (op == "*") return {x * y};
  if (op == "**") return {std::pow(x, y)};
  if (y == 0) at(e.line).error("division by zero");
  if (op == "/") return {x / y};
  const double quotient = std::floor(x / y);
  return {op == "//" ? quotient : x - quotient * y};
}

Value Interpreter::integer_arithmetic(const Expression& e, std::int64_t a, std::int64_t b) {
  const std::string& op = e.text;
  std::int64_t result = 0;
  bool overflow = false;
  if (op == "+") {
    overflow = __builtin_add_overflow(a, b, &result);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(a, b, &result);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(a, b, &result);
  } else if (op == "**") {
    if (b < 0) return {std::pow(static_cast<double>(a), static_cast<double>(b))};
    result = 1;
    for (std::int64_t i = 0; i < b && !overflow && result != 0; ++i) {
      budget_.charge(1);
      overflow = __builtin_mul_overflow(result, a, &result);
    }
  } else {
    if (b == 0) at(e.line).error("division by zero");
    if (b == -1) {  // INT64_MIN / -1 does not fit
      if (op == "//") overflow = __builtin_sub_overflow(std::int64_t{0}, a, &result);
    } else {
      // Python rounds down, and the remainder has the divisor's sign.
      const std::int64_t remainder = a % b;
      const bool down = remainder != 0 && (remainder < 0) != (b < 0);
      result = op == "//" ? a / b - (down ? 1 : 0) : remainder + (down ? b : 0);
    }
  }
  if (overflow) at(e.line).error("an integer is too large");
  return integer(result);
}

bool Interpreter::compare_chain(const Expression& e) {
  Value left = evaluate(*e.parts[0]);
  for (std::size_t i = 0; i < e.texts.size(); ++i) {
    const std::string& op = e.texts[i];
    Value right = evaluate(*e.parts[i + 1]);
    bool holds = false;
    if (op == "==" || op == "!=") {
      holds = equal(left, right, budget_) == (op == "==");
    } else if (op == "in" || op == "not in") {
      holds = contains(at(e.line), right, left) == (op == "in");
    } else {
      const int order = compare(at(e.line), left, right);
      holds = op == "<" ? order < 0 : op == ">" ? order > 0 : op == "<=" ? order <= 0 : order >= 0;
    }
    if (!holds) return false;
    left = std::move(right);
  }
  return true;
}

}  // namespace fastkv::jinja
