#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <limits>

#include "core/error.h"
#include "core/utf8.h"

namespace fastkv {
namespace {

/// What a match needs beside the pattern; one per thread, so that const use stays thread-safe.
class MatchState {
 public:
  MatchState()
      : data_(pcre2_match_data_create(1, nullptr)),
        context_(pcre2_match_context_create(nullptr)),
        stack_(pcre2_jit_stack_create(32 * 1024, 8 * 1024 * 1024, nullptr)) {
    if (!data_ || !context_) throw std::bad_alloc();
    if (stack_) pcre2_jit_stack_assign(context_, nullptr, stack_);
  }
  MatchState(const MatchState&) = delete;
  MatchState& operator=(const MatchState&) = delete;
  ~MatchState() {
    pcre2_match_data_free(data_);
    pcre2_match_context_free(context_);
    pcre2_jit_stack_free(stack_);
  }

  pcre2_match_data* data() const { return data_; }
  pcre2_match_context* context() const { return context_; }

 private:
  pcre2_match_data* data_;
  pcre2_match_context* context_;
  pcre2_jit_stack* stack_;
};

std::string error_text(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

/// Steps that a match may take before the pattern is called a bad one. The known patterns need
/// less than four a byte.
std::uint32_t step_limit(std::size_t bytes) {
  constexpr std::size_t most = std::numeric_limits<std::uint32_t>::max();
  return static_cast<std::uint32_t>(std::min(most, 100'000 + 64 * bytes));
}

}  // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;
  bool jit = false;
  std::string pattern;

  Code() = default;
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() { pcre2_code_free(code); }
};

Regex::Regex(std::string_view pattern, std::string_view where) {
  if (!is_valid_utf8(pattern)) fail("{}: a pattern is not valid UTF-8.", where);
  const std::string translated = to_pcre2_syntax(pattern, where);
  auto code = std::make_shared<Code>();
  code->pattern = pattern;

  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
  if (!context) throw std::bad_alloc();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  // MULTILINE: ^ and $ always work by lines in Oniguruma.
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                             PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                             &error, &offset, context.get());
  if (!code->code) {
    fail("{}: the pattern /{}/ cannot be compiled ({}).", where, pattern, error_text(error));
  }
  code->jit = pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE) == 0;
  code_ = std::move(code);
}

Regex Regex::literal(std::string_view text) {
  std::string quoted;
  for (char c : text) {
    const bool plain = static_cast<unsigned char>(c) >= 0x80 || (c >= '0' && c <= '9') ||
                       (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (!plain) quoted += '\\';
    quoted += c;
  }
  return {quoted, "tokenizer"};
}

std::optional<Regex::Match> Regex::find(std::string_view text, std::size_t from) const {
  static thread_local const MatchState state;
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  pcre2_set_match_limit(state.context(), step_limit(text.size() - from));
  int result = PCRE2_ERROR_JIT_STACKLIMIT;
  if (code_->jit) {
    result = pcre2_jit_match(code_->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK,
                             state.data(), state.context());
  }
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) {
    result = pcre2_match(code_->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                         state.data(), state.context());
  }
  if (result == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (result < 0) {
    fail("The tokenizer's pattern /{}/ cannot be matched against this text ({}).", code_->pattern,
         error_text(result));
  }
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(state.data());
  return Match{ends[0], ends[1]};
}

}  // namespace fastkv
