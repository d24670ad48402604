#pragma once

#include "methods/method.h"

namespace fastkv {

// One function a method, defined in the method's own file; table.cc lists them.
MethodEntry full_method();
MethodEntry fastkv_method();
MethodEntry snapkv_method();
MethodEntry h2o_method();
MethodEntry streamingllm_method();
MethodEntry gemfilter_method();
MethodEntry pyramidinfer_method();

}  // namespace fastkv
