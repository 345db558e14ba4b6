#include "accede/cli/command.hpp"

#include <iostream>

int main(int argc, char** argv) {
  return accede::cli::run_command(argc, argv, std::cout, std::cerr);
}
