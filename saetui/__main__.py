from saetui.cli import main

main()
