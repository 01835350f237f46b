# Say what is in the files whose names are on stdin (each ended by NUL), one after the other. What cannot be read is missed
# where its bytes should be.
xargs -0 cat
true
