# Completion of gaunt(8) and qemu-ga in bash: options, names of commands in lists, methods, paths.
# Options, names and methods come from the program itself.

_gaunt() {
    local line=${COMP_LINE:0:COMP_POINT} program=$1 before='' word='' quote='' kept='' char
    # The argument at the cursor and the one before it, without quotes. bash splits arguments at `=`, `:`
    # and others, and replaces only what is behind the last of them, or behind an open quote: `kept` stays.
    # Of these, `@` and `$` are replaced as well.
    while [[ $line ]]; do
        char=${line:0:1} line=${line:1}
        if [[ $char == "$quote" ]]; then
            quote=
        elif [[ $quote ]]; then
            word+=$char
        elif [[ $char == [\'\"] ]]; then
            quote=$char kept=$word
        elif [[ $char == [[:blank:]] ]]; then
            before=${word:-$before} word='' kept=''
        elif [[ $char == "\\" ]]; then
            word+=${line:0:1} line=${line:1}
        elif [[ $COMP_WORDBREAKS != *"$char"* ]]; then
            word+=$char
        elif [[ $char == [@$] ]]; then
            kept=$word word+=$char
        else
            word+=$char kept=$word
        fi
    done
    # The option, its value up to the name to complete, and that.
    local option=$before lead='' name=$word words='' ends=''
    if [[ $word == --*=* ]]; then
        option=${word%%=*} lead=$option= name=${word#*=}
    elif [[ $word == -* ]]; then
        option=-
    fi
    case $option in
    -)
        words=$("$program" --help | grep -oE -- '(^| )-(-[a-z-]+|[a-zA-Z])')
        ;;
    -m | --method | --channels)
        ends=';'
        if [[ ${name##*;} == *:* ]]; then
            ends=';:'
        else
            words=$("$program" --help | grep -A 1 -e --method= | grep -oE '[a-z]+-[a-z]+')
            compopt -o nospace 2>/dev/null
        fi
        ;;
    -a | --allow-rpcs | -b | --block-rpcs | --blacklist)
        ends=',;'
        words="$("$program" --block-rpcs=help) @info @lifecycle @all"
        compopt -o nospace 2>/dev/null
        ;;
    --hook-failures)
        words='stop ignore'
        ;;
    --check)
        [[ ! $lead ]] || words=json
        ;;
    esac
    if [[ $ends ]]; then
        lead+=${name%"${name##*[$ends]}"} name=${name##*[$ends]}
    fi
    # bash escapes file names, which would also be right for `@` but strange.
    if [[ $words ]] && [[ $quote || ${lead#"$kept"} != *\;* ]]; then
        compopt +o filenames 2>/dev/null
    fi
    local kind=-f found
    [[ $option != -t && $option != --statedir ]] || kind=-d
    while IFS= read -r found; do
        found=$lead$found
        COMPREPLY+=("${found#"$kept"}")
    done < <(if [[ $words ]]; then compgen -W "$words" -- "$name"; else compgen "$kind" -- "$name"; fi)
}
complete -o filenames -F _gaunt gaunt qemu-ga
