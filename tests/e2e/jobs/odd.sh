#!/bin/sh
# Files of the kinds that people really have.
set -e
cd "$OUTPUT_DIR"; mkdir -p model other; cd model
: > empty; printf x > 'with space.txt'; printf u > 'ünïcødé-模型.txt'; printf p > 'a+b%20c%2Fd&e=f?g#h.txt'; printf bs > 'a\b.txt'
printf q > "quote'\"\$(x);*.txt"; printf s > ' lead and trail '; printf L > "$(printf "%0255d" 0 | tr 0 n)"
head -c 100000 /dev/urandom > .a.part; head -c 5000000 /dev/urandom > a; printf bb > b; printf p > .b.part
truncate -s 50M sparse.bin; printf tail | dd of=sparse.bin bs=1 seek=40000000 conv=notrunc 2>/dev/null
mkdir step-10; echo precious > step-10/weights.bin; ln -s step-10 latest; ln -s step-10/weights.bin best.bin
printf o > ../other/f; ln -s ../other linked; mkdir many; for i in $(seq 200); do echo "$i" > "many/f$i"; done
find . -type f ! -name sums -exec sha256sum {} + | sort > ../sums
printf n > "new
line.txt"; printf x > "$(printf 'bad\377name')"; ln -s /nowhere dangling; ln -s /etc/passwd outside; mkfifo pipe
mv ../sums sums
