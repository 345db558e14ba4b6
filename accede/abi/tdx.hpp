// Intel TDX wire formats: what crosses TDCALL and SEAMCALL, and how the module lays out its tables.
//
// Source of every number: reference: TDX fact sheet (TDX module 1.5 and GHCI 1.0); the section is
// named at the head of each file. No behaviour lives here.
#pragma once

#include "accede/abi/tdx_calls.hpp"
#include "accede/abi/tdx_exits.hpp"
#include "accede/abi/tdx_fields.hpp"
#include "accede/abi/tdx_report.hpp"
#include "accede/abi/tdx_sept.hpp"
#include "accede/abi/tdx_status.hpp"
#include "accede/abi/tdx_vmcall.hpp"
