#pragma once

#include <gtest/gtest.h>

#include <string>

#include "fastkv/error.h"

namespace fastkv::test {

/// Runs `work` and expects an Error whose sentence has `part`.
template <class Work>
void expect_error(const Work& work, const std::string& part) {
  try {
    work();
    ADD_FAILURE() << "no Error; expected one with: " << part;
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find(part), std::string::npos)
        << "the sentence is: " << e.what() << "\nexpected in it: " << part;
  }
}

}  // namespace fastkv::test
