from redset.cli import main

main()
