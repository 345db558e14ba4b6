// The guest-hypervisor communication block (GHCB) protocol of AMD SEV-ES and SEV-SNP.
//
// Source of every number: reference: SEV-SNP fact sheet (GHCB 2.03 and KVM 6.12); the section is
// named at the head of each file. No behaviour lives here.
#pragma once

#include "accede/abi/ghcb_exits.hpp"
#include "accede/abi/ghcb_msr.hpp"
#include "accede/abi/ghcb_page.hpp"
#include "accede/abi/ghcb_psc.hpp"
