#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <string_view>

#include "fastkv/error.h"

namespace fastkv::test {

/// Expects that `action` throws an Error whose sentence contains every one of `parts`.
template <class Action>
void expect_error(const Action& action, std::initializer_list<std::string_view> parts) {
  try {
    action();
  } catch (const Error& e) {
    const std::string sentence = e.what();
    for (std::string_view part : parts) {
      EXPECT_NE(sentence.find(part), std::string::npos)
          << "the sentence is: " << sentence << "\nit lacks: " << part;
    }
    return;
  }
  ADD_FAILURE() << "nothing was refused; expected was a sentence with: " << *parts.begin();
}

}  // namespace fastkv::test
