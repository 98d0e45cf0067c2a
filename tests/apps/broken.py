raise ZeroDivisionError("while importing")
