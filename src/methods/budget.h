#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "core/error.h"
#include "fastkv/options.h"

namespace fastkv {

/// How many tokens to keep: a share of those that are there, or a constant number.
struct Budget {
  std::string mode = "proportional";
  double retain = 0.1;
  std::int64_t capacity = 512;

  void visit(OptionVisitor& v) {
    v.choice("mode", mode, {"proportional", "constant"},
             "budget as a share of the tokens (--retain) or as a number (--capacity)");
    v.number("retain", retain, unit_rate, "share of its tokens that a layer keeps");
    v.integer("capacity", capacity, {.low = 1}, "entries that a layer keeps, with --mode constant");
  }
  bool constant() const { return mode == "constant"; }
  /// int(n * share), or the capacity.
  std::int64_t of(std::int64_t n, double share) const {
    return constant() ? capacity : static_cast<std::int64_t>(static_cast<double>(n) * share);
  }
  std::int64_t of(std::int64_t n) const { return of(n, retain); }

  /// Refuses the option of the mode that is not in use, and a capacity not above `always`, the
  /// number of entries that are kept in any case.
  void check(const OptionValues& given, std::int64_t always, std::string_view always_name) const {
    refuse_with_mode(given, "retain", true);
    refuse_with_mode(given, "capacity", false);
    if (constant() && capacity <= always) {
      fail("--capacity {} must be above the {} of {}, which are always kept", capacity, always_name,
           always);
    }
  }
  /// What fastkv calibrate wrote has a layer and a share.
  void refuse_calibration(std::string_view layer_option) const {
    if (constant()) {
      fail(
          "--calibration sets a share of the tokens, which has no meaning with --mode constant; "
          "name its layer by --{}",
          layer_option);
    }
  }
  /// Refuses `option` where it was given and the mode is `in_constant`.
  void refuse_with_mode(const OptionValues& given, std::string_view option,
                        bool in_constant) const {
    if (constant() == in_constant && given.contains(option)) {
      fail("--{} has no meaning with --mode {}; leave one of them out", option, mode);
    }
  }
};

}  // namespace fastkv
