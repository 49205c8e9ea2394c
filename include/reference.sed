# Plain comments become what doxygen reads. The second line begins the file's own comment.
2s,^/\*,/** \\file\n *,
3,$s,^/\* ,/** ,
3,$s,^/\*$,/**,
# Behind a member, an enumerator or a parameter.
3,$s,^(.*[;{] *)/\* ,\1/**< ,
3,$s,^( .*[,0-9a-zA-Z_)"] +)/\* ,\1/**< ,
# Each of the five labels is a paragraph of its own.
s,^ \* (Units|Returns|Owner|Threads|Source): +, * \\par \1\n * ,
