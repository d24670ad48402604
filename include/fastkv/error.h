#pragma once

#include <stdexcept>

namespace fastkv {

/// A mistake that a user can mend: a bad file, option or prompt, or too little memory. what() is a
/// sentence that says what was expected, what was found and what to do. Everything that the
/// library throws on bad input is an Error; the command line prints it and exits with code 2.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace fastkv
