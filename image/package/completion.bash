# Completion of gaunt(8) and qemu-ga in bash: options, names of commands in lists, methods, paths.
# Options, names and methods come from the program itself.
# shellcheck disable=SC2207 # All of these are words.

_gaunt() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} program=$1
    # bash splits at `=`, so a value follows a word that is `=`.
    if [[ $word == = ]]; then
        word=
    elif [[ $before == = ]]; then
        before=${COMP_WORDS[COMP_CWORD - 2]}
    elif [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "$("$program" --help | grep -oE -- '(^| )-(-[a-z-]+|[a-zA-Z])')" -- "$word"))
        return
    fi
    [[ ${COMP_WORDS[COMP_CWORD]} != = ]] || before=${COMP_WORDS[COMP_CWORD - 1]}
    case $before in
    -m | --method)
        COMPREPLY=($(compgen -W "$("$program" --help | grep -A 1 -e --method= | grep -oE '[a-z]+-[a-z]+')" -- "$word"))
        ;;
    -a | --allow-rpcs | -b | --block-rpcs | --blacklist)
        # The last name of a list; the names before it stay.
        local list=
        [[ $word != *,* ]] || list=${word%,*},
        COMPREPLY=($(compgen -P "$list" -W "$("$program" --block-rpcs=help) @info @lifecycle @all" -- "${word##*,}"))
        compopt -o nospace 2>/dev/null
        ;;
    --hook-failures)
        COMPREPLY=($(compgen -W 'stop ignore' -- "$word"))
        ;;
    -t | --statedir)
        COMPREPLY=($(compgen -d -- "$word"))
        ;;
    *)
        COMPREPLY=($(compgen -f -- "$word"))
        ;;
    esac
}
complete -o filenames -F _gaunt gaunt qemu-ga
