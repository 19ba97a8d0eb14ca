# Reads documents, and writes what is to be done in them as lines of shell:
#
#   document NAME                          a document begins
#   file PATH TEXT                         a block of a file: ```json /etc/crio/policy.json
#   try WHERE STAGE WORDS TEXT SAYS    a command of a block ```console STAGE [WORDS], and what it is to print
#   fault WHERE WHAT                       a block that nothing can be done with
#
# In a block, a line that begins with "# " (or "$ ", which is not root) is a command; a line that ends with a backslash goes on
# in the next one. What stands below a command is what it prints.

function quoted(text) {
  gsub(/'/, "'\\''", text)
  return "'" text "'"
}

function flush_command() {
  if (command != "") print "try", quoted(where), stage, quoted(words), quoted(command), quoted(says)
  command = says = ""
}

function fault(what) { print "fault", quoted(FILENAME ":" FNR), quoted(what) }

FNR == 1 { print "document", quoted(FILENAME) }

/^[ ]*```/ && !inside {
  inside = "other"
  language = $1
  sub(/```/, "", language)
  if (language == "console") {
    inside = "console"
    stage = ($2 == "" ? "none" : $2)
    words = ($3 == "" ? "" : $3)
    if (stage !~ /^(tree|built|node|vm|elsewhere)$/) fault("a console block needs one of tree, built, node, vm, elsewhere")
  } else if (language ~ /^(sh|bash|shell|shell-session)$/) {
    fault("commands belong into a console block, where they are tried")
  } else if ($2 ~ /^\//) {
    inside = "file"
    path = $2
    text = ""
  }
  next
}

/^[ ]*```/ {
  if (inside == "console") flush_command()
  if (inside == "file") print "file", quoted(path), quoted(text)
  inside = ""
  next
}

inside == "file" { text = text $0 "\n" }

inside == "console" && continued {
  continued = /\\$/
  command = command "\n" $0
  next
}

inside == "console" && /^[#$] / {
  flush_command()
  command = substr($0, 3)
  where = FILENAME ":" FNR
  continued = /\\$/
  next
}

inside == "console" {
  if (command == "") fault("what a command prints, and no command")
  says = says $0 "\n"
}

# Four blanks make a block too, and would not be tried.
!inside && /^    [#$] / { fault("commands belong into a console block, where they are tried") }
