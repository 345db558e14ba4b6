// Exists so that the headers that all tests share are compiled once (CMakeLists.txt).
