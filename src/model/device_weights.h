#pragma once

#include "model/weights.h"
#include "ops/device.h"

namespace fastkv {

/// The same weights in a device's memory, the parts of each matrix in one piece. Matrices are
/// bfloat16 where the device computes in bfloat16, else float32. On a device that shares the host's
/// memory, the weights as they are. Throws Error, before anything is copied, where there is not
/// enough room.
Weights move_to(Device& device, Weights weights, const Progress& progress = {});

}  // namespace fastkv
