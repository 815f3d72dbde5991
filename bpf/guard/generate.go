package guard

//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -cflags "-O2 -mcpu=v3 -Wall -Wextra -Werror -I../headers" -type settings -type cookie_key -type source -type allow -type event program guard.c
